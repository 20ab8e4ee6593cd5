#include "io/file_stamp.h"

#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include "odmoe/format.h"

namespace odmoe {
namespace {

int64_t nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + int64_t{time.tv_nsec};
}

}  // namespace

std::string FileStamp::text() const {
  return odmoe::format("{} {} {} {}", number, bytes, modified_ns, changed_ns);
}

Result<FileStamp> stamp_of(const std::filesystem::path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    return fail(ErrorKind::kIo, "{} cannot be examined: {}", path.string(),
                std::generic_category().message(errno));
  }
#ifdef __APPLE__
  const timespec modified = status.st_mtimespec, changed = status.st_ctimespec;
#else
  const timespec modified = status.st_mtim, changed = status.st_ctim;
#endif
  return FileStamp{.number = status.st_ino,
                   .bytes = static_cast<uint64_t>(status.st_size),
                   .modified_ns = nanoseconds(modified),
                   .changed_ns = nanoseconds(changed)};
}

}  // namespace odmoe
