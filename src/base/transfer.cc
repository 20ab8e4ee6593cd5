#include "base/transfer.h"

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace odmoe {
namespace {

constexpr size_t kMostAtOnce = size_t{1} << 30U;  // macOS refuses 2 GiB and more

template <typename Call>
int64_t uninterrupted(const Call& call) {
  while (true) {
    const ssize_t n = call();
    if (n >= 0) return n;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace

int64_t read_some(int descriptor, uint64_t offset, std::span<std::byte> out) {
  return uninterrupted([&] {
    return ::pread(descriptor, out.data(), std::min(kMostAtOnce, out.size()), static_cast<off_t>(offset));
  });
}

int64_t write_some(int descriptor, std::span<const std::byte> bytes) {
  return uninterrupted(
      [&] { return ::write(descriptor, bytes.data(), std::min(kMostAtOnce, bytes.size())); });
}

std::expected<void, ShortTransfer> read_exactly(int descriptor, uint64_t offset, std::span<std::byte> out) {
  for (uint64_t done = 0; done < out.size();) {
    const int64_t n = read_some(descriptor, offset + done, out.subspan(done));
    if (n <= 0) return std::unexpected(ShortTransfer{.bytes = done, .error = static_cast<int>(-n)});
    done += static_cast<uint64_t>(n);
  }
  return {};
}

std::expected<void, ShortTransfer> write_exactly(int descriptor, std::span<const std::byte> bytes) {
  for (uint64_t done = 0; done < bytes.size();) {
    const int64_t n = write_some(descriptor, bytes.subspan(done));
    if (n < 0) return std::unexpected(ShortTransfer{.bytes = done, .error = static_cast<int>(-n)});
    done += static_cast<uint64_t>(n);
  }
  return {};
}

}  // namespace odmoe
