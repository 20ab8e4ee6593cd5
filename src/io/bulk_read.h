// Reads of whole ranges into ordinary memory, for what is loaded once and stays: dense weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/clock.h"
#include "io/async_reader.h"

namespace odmoe {

struct BulkRange {
  int file = 0;
  uint64_t offset = 0;  // any byte: alignment is taken care of
  std::span<std::byte> destination;
};

struct BulkReadOptions {
  uint32_t piece_bytes = 1024 * 1024;                 // size of one read
  uint32_t max_bounce_bytes = 16u << 20u;             // most memory for aligned bounce buffers while reading
  int attempts = 3;                                   // tries of a read before it is an error
  const Clock* clock = &SteadyClock::instance();      // of the pauses between them (backoff_us)
  std::function<bool(uint64_t bytes_done)> progress;  // called now and then; false stops with kInterrupted
  // Called once for every range that has bytes, in any order, when all of it is in its destination.
  std::function<void(size_t range)> range_done;
};

// Fills every range, keeping the reader's depth busy, through aligned bounce buffers where a direct read
// into the destination is not possible.  The reader must have nothing in flight.
// Errors: kIo (a read failed `attempts` times), kBadFile (the file ends before the range), both naming the
// file and the offset; kInterrupted.
Status bulk_read(AsyncReader& reader, std::span<const BulkRange> ranges, const BulkReadOptions& options = {});

}  // namespace odmoe
