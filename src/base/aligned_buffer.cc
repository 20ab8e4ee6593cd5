#include "base/aligned_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/units.h"

namespace odmoe {
namespace {

#ifdef __linux__
// A large page can only back memory that starts on its boundary; mmap promises ordinary pages.
constexpr uint64_t kHugePageBytes = 2 * kMiB;
// Advice: where it is refused, ordinary pages serve.
void advise_huge_pages(std::byte* data, size_t bytes) { madvise(data, bytes, MADV_HUGEPAGE); }
void advise_small_pages(std::byte* data, size_t bytes) { madvise(data, bytes, MADV_NOHUGEPAGE); }
void give_back(std::byte* data, size_t bytes) { madvise(data, bytes, MADV_DONTNEED); }
#else
constexpr uint64_t kHugePageBytes = 1;
void advise_huge_pages(std::byte*, size_t) {}
void advise_small_pages(std::byte*, size_t) {}
// MADV_DONTNEED is only a hint elsewhere, and MADV_FREE leaves the old bytes: fresh pages in the same place
// do both, on every POSIX system.  Where that fails the memory stays, but it must read as zeros.
void give_back(std::byte* data, size_t bytes) {
  const void* const map =
      mmap(data, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (map == MAP_FAILED) std::memset(data, 0, bytes);
}
#endif

}  // namespace

Result<AlignedBuffer> AlignedBuffer::allocate(uint64_t bytes, bool huge_pages) {
  if (bytes == 0) return AlignedBuffer{};
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  huge_pages = huge_pages && bytes >= kHugePageBytes && kHugePageBytes > page;
  const uint64_t length = round_up(bytes, page);
  const uint64_t mapped = length + (huge_pages ? kHugePageBytes : 0);
  void* const map = bytes > SIZE_MAX / 2 ? MAP_FAILED
                                         : mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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
    advise_huge_pages(data, length);
  }
  return AlignedBuffer(data, bytes, huge_pages ? kHugePageBytes : page);
}

void AlignedBuffer::avoid_huge_pages() {
  if (data_ != nullptr) advise_small_pages(data_, bytes_);
}

void AlignedBuffer::discard(uint64_t offset, uint64_t bytes) {
  const uint64_t begin = round_up(offset, unit_);
  // The last unit may be cut off by the end of the buffer, behind which nobody else is.
  const uint64_t end = offset + bytes == bytes_ ? bytes_ : round_down(offset + bytes, unit_);
  if (begin < end) give_back(data_ + begin, end - begin);
}

void AlignedBuffer::populate(uint64_t offset, uint64_t bytes) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = round_down(offset, page);
  const uint64_t end = std::min(round_up(offset + bytes, page), round_up(bytes_, page));
#ifdef MADV_POPULATE_WRITE
  // Since Linux 5.14.
  if (madvise(data_ + begin, end - begin, MADV_POPULATE_WRITE) == 0 || errno != EINVAL) return;
#endif
  // Writes what is there, in one step: others may be writing.
  for (uint64_t at = begin; at < end; at += page) {
    std::atomic_ref(reinterpret_cast<unsigned char&>(data_[at])).fetch_or(0, std::memory_order_relaxed);
  }
}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(unit_, other.unit_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  munmap(data_, round_up(bytes_, static_cast<uint64_t>(sysconf(_SC_PAGESIZE))));
}

}  // namespace odmoe
