// Page-aligned memory straight from the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "odmoe/result.h"

namespace odmoe {

// Anonymous memory that starts on a page boundary and reads as zeros.  A page costs nothing until it is
// touched.  Move-only; the address stays the same when moved.  Thread-compatible.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  // `huge_pages` asks for large pages where the system has them: fewer TLB misses and faults for memory that
  // is used as a whole.  The system then hands out whole large pages (2 MiB on x86-64).
  // Errors: kIo when the system has no such amount of address space or memory to give.
  static Result<AlignedBuffer> allocate(uint64_t bytes, bool huge_pages = false);

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  AlignedBuffer(std::byte* data, size_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// Asks for large pages where the system has them, for memory that came from elsewhere: a wish, not a promise.
void advise_huge_pages(std::span<std::byte> memory);

}  // namespace odmoe
