#include "io/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/transfer.h"

namespace odmoe {
namespace {

std::unexpected<Error> write_error(const std::filesystem::path& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return fail(ErrorKind::kIo, "cannot write {}: {}{}", path.string(), std::generic_category().message(error),
              full ? "; make room and run the same command again to go on" : "; check the drive");
}

int sync_descriptor(int descriptor) {
#ifdef F_FULLFSYNC
  // On macOS fsync() leaves the data in the drive's own cache.
  if (fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
  return fsync(descriptor) == 0 ? 0 : errno;
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::filesystem::path& path, bool direct) {
  OutputFile file(FileDescriptor::open(path, O_WRONLY | O_CREAT | O_TRUNC), path);
  if (!file.descriptor_) return write_error(path, errno);
  if (direct && make_direct(file.descriptor_.number()).direct) {
    ODMOE_ASSIGN_OR_RETURN(file.staged_, AlignedBuffer::allocate(kStageBytes));
  }
  return file;
}

Result<OutputFile> OutputFile::create_private(const std::filesystem::path& path) {
  constexpr mode_t kMode = S_IRUSR | S_IWUSR;
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return write_error(path, errno);
  OutputFile file(FileDescriptor::open(path, O_WRONLY | O_CREAT | O_EXCL, kMode), path);
  if (!file.descriptor_) return write_error(path, errno);
  if (::fchmod(file.descriptor_.number(), kMode) != 0)
    return write_error(path, errno);  // the umask may have taken more
  return file;
}

Result<OutputFile> OutputFile::append_locked(const std::filesystem::path& path) {
  OutputFile file(FileDescriptor::open(path, O_WRONLY | O_CREAT | O_APPEND), path);
  if (!file.descriptor_) return write_error(path, errno);
  if (flock(file.descriptor_.number(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return fail(ErrorKind::kUsage, "{} is in use by another process; wait until it ends", path.string());
  }
  return file;
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  ODMOE_RETURN_IF_ERROR(staged_.size() > 0 ? stage(bytes) : put(bytes));
  bytes_ += bytes.size();
  return {};
}

Status OutputFile::put(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const int64_t n = write_some(descriptor_.number(), bytes);
    if (n < 0) return write_error(path_, static_cast<int>(-n));
    bytes = bytes.subspan(static_cast<size_t>(n));
    // A direct write that the drive took in part leaves a place that may not be aligned.
    if (staged_.size() > 0 && !bytes.empty()) end_direct(descriptor_.number());
  }
  return {};
}

Status OutputFile::stage(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), staged_.size() - n_staged_);
    std::memcpy(staged_.data() + n_staged_, bytes.data(), n);
    n_staged_ += n;
    bytes = bytes.subspan(n);
    if (n_staged_ < staged_.size()) continue;
    ODMOE_RETURN_IF_ERROR(put(staged_.span()));
    n_staged_ = 0;
  }
  return {};
}

// The end of a file is not a whole block.
Status OutputFile::flush() {
  end_direct(descriptor_.number());
  const Status status = put(staged_.span().first(n_staged_));
  staged_ = {};
  n_staged_ = 0;
  return status;
}

Status OutputFile::sync() {
  if (staged_.size() > 0) ODMOE_RETURN_IF_ERROR(flush());
  const int error = sync_descriptor(descriptor_.number());
  if (error != 0 && error != EINVAL && error != ENOTSUP) return write_error(path_, error);
  return {};
}

Status sync_directory(const std::filesystem::path& path) {
  const FileDescriptor directory = FileDescriptor::open(path, O_RDONLY);
  if (!directory) return write_error(path, errno);
  const int error = sync_descriptor(directory.number());
  if (error != 0 && error != EINVAL && error != ENOTSUP && error != EACCES) return write_error(path, error);
  return {};
}

}  // namespace odmoe
