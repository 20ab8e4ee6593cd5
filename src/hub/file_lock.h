// A lock between processes, as huggingface_hub's (filelock) has it: flock on a file that stays.
#pragma once

#include <filesystem>
#include <optional>

#include "base/file_descriptor.h"
#include "odmoe/result.h"

namespace odmoe::hub {

// Held as long as it lives, and no longer than the process.  Move-only.
class FileLock {
 public:
  // Nothing while another process has it.  Makes the folders that are missing.  kIo.  A file system without
  // locks gives one that holds nobody off.
  static Result<std::optional<FileLock>> try_take(const std::filesystem::path& path);

 private:
  explicit FileLock(FileDescriptor file) : file_(std::move(file)) {}
  FileDescriptor file_;
};

}  // namespace odmoe::hub
