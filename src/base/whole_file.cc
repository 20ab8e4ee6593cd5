#include "base/whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

#include "base/file_descriptor.h"
#include "base/transfer.h"

namespace odmoe {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

template <typename Bytes>
Result<Bytes> read_all(const std::filesystem::path& path, uint64_t most_bytes) {
  // Without O_NONBLOCK opening a pipe waits for who writes to it.
  const FileDescriptor file = FileDescriptor::open(path, O_RDONLY | O_NONBLOCK);
  if (!file && (errno == ENOENT || errno == ENOTDIR)) {
    return fail(ErrorKind::kNotFound, "{}: no such file", path.string());
  }
  if (!file) {
    return fail(ErrorKind::kIo, "cannot open {}: {}", path.string(), reason(errno));
  }
  struct stat status{};
  if (::fstat(file.number(), &status) != 0) {
    return fail(ErrorKind::kIo, "cannot read {}: {}", path.string(), reason(errno));
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorKind::kBadFile, "{} is not a regular file", path.string());
  }
  if (std::cmp_greater(status.st_size, most_bytes)) {
    return fail(ErrorKind::kBadFile, "{} has {} bytes; {} are the most that is expected", path.string(),
                status.st_size, most_bytes);
  }
  Bytes bytes(static_cast<size_t>(status.st_size), {});
  const auto done = read_exactly(file.number(), 0, std::as_writable_bytes(std::span(bytes)));
  if (!done.has_value() && done.error().error == 0) {
    return fail(ErrorKind::kIo, "{} became shorter while it was read", path.string());
  }
  if (!done.has_value()) {
    return fail(ErrorKind::kIo, "cannot read {}: {}", path.string(), reason(done.error().error));
  }
  return bytes;
}

}  // namespace

Result<std::vector<std::byte>> read_whole(const std::filesystem::path& path, uint64_t most_bytes) {
  return read_all<std::vector<std::byte>>(path, most_bytes);
}

Result<std::string> read_whole_text(const std::filesystem::path& path, uint64_t most_bytes) {
  return read_all<std::string>(path, most_bytes);
}

Status replace_whole(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::filesystem::path draft = path;
  draft += ".tmp";
  const auto give_up = [&](int error) -> Status {
    std::error_code ignored;
    std::filesystem::remove(draft, ignored);
    return fail(ErrorKind::kIo, "cannot write {}: {}", path.string(), reason(error));
  };
  FileDescriptor file = FileDescriptor::open(draft, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return give_up(errno);
  if (const auto done = write_exactly(file.number(), bytes); !done.has_value()) {
    return give_up(done.error().error);
  }
  if (::fsync(file.number()) != 0 || !file.close()) return give_up(errno);
  if (std::rename(draft.c_str(), path.c_str()) != 0) return give_up(errno);
  return {};
}

}  // namespace odmoe
