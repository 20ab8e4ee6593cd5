// Page-aligned memory straight from the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "odmoe/result.h"

namespace odmoe {

// Anonymous memory that starts on a page boundary and reads as zeros.  A page costs nothing until it is
// touched, so a buffer may be larger than the machine's memory as long as what is touched fits.  Move-only;
// the address stays the same when moved.  Thread-compatible.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        unit_(std::exchange(other.unit_, 1)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  // `huge_pages` asks for large pages where the system has them: fewer TLB misses and faults for memory that
  // is used as a whole.  The system then hands out whole large pages (2 MiB on x86-64).
  // Errors: kIo when the system has no such amount of address space or memory to give.
  static Result<AlignedBuffer> allocate(uint64_t bytes, bool huge_pages = false);

  // Gives the memory of a range back to the system; the addresses stay, read as zeros and cost nothing until
  // they are touched again.  Only whole units of discard_bytes() inside the range are given back, so that no
  // large page is split: its parts would stay resident until the system finds the time to collect them.
  // Nobody may use the range meanwhile; the kernel must not hold it pinned (io_uring's registered buffers).
  void discard(uint64_t offset, uint64_t bytes);

  // Has the system make the pages of a range now, which the first touch of each would do otherwise: for who
  // is about to have them written and has something better to do than wait for that.  What is there stays,
  // and others may use the range meanwhile.  Where the system refuses, the first touch does.
  void populate(uint64_t offset, uint64_t bytes);

  // Asks for ordinary pages even where the system gives large ones to everybody, for memory of which a little
  // here and there is touched.
  void avoid_huge_pages();

  // The unit of memory that is given out and given back: a page, or a large page where they were asked for.
  uint64_t discard_bytes() const { return unit_; }

  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  AlignedBuffer(std::byte* data, size_t bytes, uint64_t unit) : data_(data), bytes_(bytes), unit_(unit) {}
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  uint64_t unit_ = 1;
};

}  // namespace odmoe
