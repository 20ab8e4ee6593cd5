#include "io/direct_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "io/direct_mode.h"

namespace odmoe {
namespace {

std::unexpected<Error> open_error(const std::filesystem::path& path, int error) {
  return fail(error == ENOENT || error == ENOTDIR ? ErrorKind::kNotFound : ErrorKind::kIo,
              "cannot open {} for reading: {}{}", path.string(), std::generic_category().message(error),
              error == EMFILE || error == ENFILE
                  ? "; raise the limit of open files (ulimit -n), or convert the model with --layout packed"
                  : "");
}

// A model may have a file per expert, thousands of them, and the usual limit of 256 or 1024 is one that every
// process may raise itself.  Whether there is now more room.
bool raise_file_limit() {
  struct rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return false;
  const rlim_t before = limit.rlim_cur;
  // Some systems say that there is no limit and then refuse more than so many.
  for (const rlim_t most : {limit.rlim_max, rlim_t{1} << 20U, rlim_t{10240}}) {
    limit.rlim_cur = std::min(most, limit.rlim_max);
    if (limit.rlim_cur > before && setrlimit(RLIMIT_NOFILE, &limit) == 0) return true;
  }
  return false;
}

}  // namespace

Result<DirectFile> DirectFile::open(const std::filesystem::path& path, bool direct) {
  // O_NONBLOCK so that opening a pipe by mistake returns; cleared below, as io_uring heeds it.
  constexpr int kFlags = O_RDONLY | O_NONBLOCK;
  FileDescriptor descriptor = FileDescriptor::open(path, kFlags);
  while (!descriptor && errno == EMFILE && raise_file_limit())
    descriptor = FileDescriptor::open(path, kFlags);
  if (!descriptor) return open_error(path, errno);

  struct stat info{};
  if (fstat(descriptor.number(), &info) != 0) return open_error(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return fail(ErrorKind::kIo, "cannot open {} for reading: it is {}; name a file", path.string(),
                S_ISDIR(info.st_mode) ? "a directory" : "no regular file");
  }
  fcntl(descriptor.number(), F_SETFL, fcntl(descriptor.number(), F_GETFL) & ~O_NONBLOCK);
  DirectFile file(std::move(descriptor), static_cast<uint64_t>(info.st_size), path);
  if (direct) {
    const DirectMode mode = make_direct(file.descriptor());
    file.direct_ = mode.direct;
    file.alignment_ = mode.alignment;
  }
  return file;
}

}  // namespace odmoe
