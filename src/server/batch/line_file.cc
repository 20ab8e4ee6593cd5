#include "server/batch/line_file.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <span>
#include <string>
#include <system_error>

#include "base/checksum.h"
#include "base/transfer.h"
#include "odmoe/format.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLineBlockBytes = 1 << 20;

uint64_t line_checksum(std::string_view text) { return Checksum::of(std::as_bytes(std::span(text))); }

}  // namespace

std::unexpected<Error> batch_file_error(const char* what, const fs::path& path, int error) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return fail(ErrorKind::kIo, "cannot {} {}: {}{}", what, path.string(),
              std::generic_category().message(error),
              full ? "; make room and run the same command again to go on" : "; check the drive");
}

std::string checked_line(std::string_view entry) {
  return odmoe::format("{:016x} {}\n", line_checksum(entry), entry);
}

std::optional<std::string_view> entry_of_checked_line(std::string_view line) {
  constexpr size_t kDigits = 16;
  if (line.size() <= kDigits || line[kDigits] != ' ') return std::nullopt;
  uint64_t checksum = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + kDigits, checksum, 16);
  const std::string_view entry = line.substr(kDigits + 1);
  const bool is_whole = error == std::errc() && end == line.data() + kDigits;
  if (!is_whole || checksum != line_checksum(entry)) return std::nullopt;
  return entry;
}

Status each_batch_line(const FileDescriptor& file, const fs::path& path, uint64_t offset,
                       const std::function<Result<bool>(std::string_view line, uint64_t offset)>& take) {
  std::string held, block(kLineBlockBytes, '\0');
  uint64_t line_offset = offset;
  while (true) {
    const int64_t n = read_some(file.number(), offset, std::as_writable_bytes(std::span(block)));
    if (n < 0) return batch_file_error("read", path, static_cast<int>(-n));
    if (n == 0) return {};
    offset += static_cast<uint64_t>(n);
    std::string_view rest = std::string_view(block).substr(0, static_cast<size_t>(n));
    for (size_t end = 0; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
      held += rest.substr(0, end);
      ODMOE_ASSIGN_OR_RETURN(const bool more, take(held, line_offset));
      if (!more) return {};
      line_offset += held.size() + 1;
      held.clear();
    }
    held += rest;
  }
}

Status write_whole_line(const FileDescriptor& file, const fs::path& path, uint64_t& bytes,
                        std::string_view line) {
  auto offset = static_cast<off_t>(bytes);
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t n = pwrite(file.number(), rest.data(), rest.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n < 0 ? errno : ENOSPC;
      (void)!ftruncate(file.number(), static_cast<off_t>(bytes));
      return batch_file_error("write", path, error);
    }
    rest.remove_prefix(static_cast<size_t>(n));
    offset += n;
  }
  bytes += line.size();
  return {};
}

}  // namespace odmoe::server
