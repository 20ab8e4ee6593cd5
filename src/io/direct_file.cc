#include "io/direct_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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
  int descriptor = -1;
  do {
    // O_NONBLOCK so that opening a pipe by mistake returns; cleared below, as io_uring heeds it.
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (descriptor < 0 && (errno == EINTR || (errno == EMFILE && raise_file_limit())));
  if (descriptor < 0) return open_error(path, errno);

  struct stat info{};
  if (fstat(descriptor, &info) != 0) {
    const int error = errno;
    ::close(descriptor);
    return open_error(path, error);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return fail(ErrorKind::kIo, "cannot open {} for reading: it is {}; name a file", path.string(),
                S_ISDIR(info.st_mode) ? "a directory" : "no regular file");
  }
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
  DirectFile file(descriptor, static_cast<uint64_t>(info.st_size), path);
  if (direct) {
    const DirectMode mode = make_direct(descriptor);
    file.direct_ = mode.direct;
    file.alignment_ = mode.alignment;
  }
  return file;
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(other.bytes_),
      path_(std::move(other.path_)),
      alignment_(other.alignment_),
      direct_(other.direct_) {}

DirectFile& DirectFile::operator=(DirectFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  std::swap(path_, other.path_);
  std::swap(alignment_, other.alignment_);
  std::swap(direct_, other.direct_);
  return *this;
}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace odmoe
