#include "io/aligned_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/units.h"

namespace odmoe {
namespace {

#ifdef __linux__
// A large page can only back memory that starts on its boundary; mmap promises ordinary pages.
constexpr uint64_t kHugePageBytes = 2 * kMiB;
#else
constexpr uint64_t kHugePageBytes = 1;
#endif

}  // namespace

Result<AlignedBuffer> AlignedBuffer::allocate(uint64_t bytes, bool huge_pages) {
  if (bytes == 0) return AlignedBuffer{};
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  huge_pages = huge_pages && bytes >= kHugePageBytes && kHugePageBytes > page;
  const uint64_t length = round_up(bytes, page);
  const uint64_t mapped = length + (huge_pages ? kHugePageBytes : 0);
  void* const map = bytes > SIZE_MAX / 2
                        ? MAP_FAILED
                        : mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) {
    return fail(ErrorKind::kIo, "no memory for a buffer of {}: {}; lower the memory budget",
                format_bytes(bytes), std::generic_category().message(bytes > SIZE_MAX / 2 ? ENOMEM : errno));
  }
  auto* data = static_cast<std::byte*>(map);
  if (huge_pages) {
    const uint64_t skip =
        round_up(reinterpret_cast<uintptr_t>(data), kHugePageBytes) - reinterpret_cast<uintptr_t>(data);
    if (skip > 0) munmap(data, skip);
    if (skip < kHugePageBytes) munmap(data + skip + length, kHugePageBytes - skip);
    data += skip;
    advise_huge_pages({data, length});
  }
  return AlignedBuffer(data, bytes);
}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void advise_huge_pages(std::span<std::byte> memory) {
#ifdef __linux__
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  const uint64_t skip = round_up(address, page) - address;
  if (skip >= memory.size()) return;
  // Advice: where it is refused, ordinary pages serve.
  madvise(memory.data() + skip, round_down(memory.size() - skip, page), MADV_HUGEPAGE);
#else
  static_cast<void>(memory);
#endif
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  munmap(data_, round_up(bytes_, static_cast<uint64_t>(sysconf(_SC_PAGESIZE))));
}

}  // namespace odmoe
