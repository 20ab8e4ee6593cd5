// Reads and writes of all that was asked for, which the system may do in parts and signals interrupt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace odmoe {

// A transfer that came to less.
struct ShortTransfer {
  uint64_t bytes = 0;  // that were transferred before
  int error = 0;       // errno; 0: the file ends there
};

// Fills `out` with what is from `offset` on.
std::expected<void, ShortTransfer> read_exactly(int descriptor, uint64_t offset, std::span<std::byte> out);
// Writes all of `bytes` behind what was written before.
std::expected<void, ShortTransfer> write_exactly(int descriptor, std::span<const std::byte> bytes);

// One call, for callers that handle short reads and writes themselves.  How many bytes, 0 at a file's end; an
// errno, negative.
int64_t read_some(int descriptor, uint64_t offset, std::span<std::byte> out);
int64_t write_some(int descriptor, std::span<const std::byte> bytes);

}  // namespace odmoe
