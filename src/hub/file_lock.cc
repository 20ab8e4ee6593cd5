#include "hub/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace odmoe::hub {

Result<std::optional<FileLock>> FileLock::try_take(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) return fail(ErrorKind::kIo, "cannot make {}: {}", path.parent_path().string(), error.message());
  FileDescriptor file = FileDescriptor::open(path, O_RDWR | O_CREAT);
  if (!file) return fail(ErrorKind::kIo, "cannot open {}: {}", path.string(), std::strerror(errno));
  if (flock(file.number(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return std::nullopt;
  return FileLock(std::move(file));
}

}  // namespace odmoe::hub
