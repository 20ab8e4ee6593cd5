// A file open for reading, past the page cache where the file system allows it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

#include "base/file_descriptor.h"
#include "io/async_reader.h"
#include "odmoe/result.h"

namespace odmoe {

// Move-only owner of the open file.  Immutable once open, so thread-safe.
class DirectFile {
 public:
  // Opens a regular file; `direct` asks for O_DIRECT (Linux) or F_NOCACHE (macOS), and falls back to
  // buffered reads where the file system refuses.
  // Errors: kNotFound; kIo (no permission, not a regular file, too many open files), naming the path.
  static Result<DirectFile> open(const std::filesystem::path& path, bool direct);

  int descriptor() const { return descriptor_.number(); }
  uint64_t bytes() const { return bytes_; }  // when it was opened
  const std::filesystem::path& path() const { return path_; }
  ReadAlignment alignment() const { return alignment_; }
  bool direct() const { return direct_; }

 private:
  DirectFile(FileDescriptor descriptor, uint64_t bytes, std::filesystem::path path)
      : descriptor_(std::move(descriptor)), bytes_(bytes), path_(std::move(path)) {}

  FileDescriptor descriptor_;
  uint64_t bytes_ = 0;
  std::filesystem::path path_;
  ReadAlignment alignment_;
  bool direct_ = false;
};

}  // namespace odmoe
