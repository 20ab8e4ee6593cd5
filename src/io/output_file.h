// Files that are written so that they are still there after the power has gone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/file_descriptor.h"
#include "io/direct_mode.h"
#include "odmoe/result.h"

namespace odmoe {

// A file that is being written from its beginning.  Move-only; closed, but not synced, when destroyed.  One
// owner.
class OutputFile {
 public:
  // Creates `path`, or empties it.  kIo naming the path.
  // `direct` is for much that nobody reads soon: past the page cache where the file system allows it, in
  // pieces of kStageBytes from a buffer of the file's own.
  static Result<OutputFile> create(const std::filesystem::path& path, bool direct = false);
  // Makes a new file at `path`, which its owner alone may read and write from its first moment on, whatever
  // the umask; what was there goes, also a link, which is not followed.
  static Result<OutputFile> create_private(const std::filesystem::path& path);
  // Creates `path` or opens it to write behind what it has, and takes a lock that lasts as long as the
  // process: kUsage when another process has it.
  static Result<OutputFile> append_locked(const std::filesystem::path& path);

  // All of `bytes`, behind what was written before.  kIo, naming the path, with what to do when the drive is
  // full.
  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
  // Until this has returned, what was written may be lost with the power.  The buffer goes.
  Status sync();

  uint64_t bytes() const { return bytes_; }  // written so far
  const std::filesystem::path& path() const { return path_; }

  static constexpr size_t kStageBytes = 1U << 20U;

 private:
  OutputFile(FileDescriptor descriptor, std::filesystem::path path)
      : descriptor_(std::move(descriptor)), path_(std::move(path)) {}
  Status put(std::span<const std::byte> bytes);
  Status stage(std::span<const std::byte> bytes);
  Status flush();

  FileDescriptor descriptor_;
  uint64_t bytes_ = 0;
  std::filesystem::path path_;
  AlignedBuffer staged_;  // what is not in the file yet; of no size where the page cache is used
  size_t n_staged_ = 0;
};

// Makes the names in a directory last.  Where a file system cannot, nothing happens.
Status sync_directory(const std::filesystem::path& path);

}  // namespace odmoe
