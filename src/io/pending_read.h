// One read on its way from the first try to the last byte: what to do with short results and failures is
// decided here, once, for everyone who reads.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>

#include "io/async_reader.h"

namespace odmoe {

struct PendingRead {
  int file = 0;
  uint64_t offset = 0;               // of the next try; aligned
  uint32_t bytes = 0;                // to ask for; aligned, so it may reach beyond what is needed or the file
  uint32_t needed = 0;               // of these, how many must arrive
  std::byte* destination = nullptr;  // of the next try
  int failures = 0;                  // tries that brought nothing usable
  int error = 0;                     // errno of the last of them; 0: the file ended

  ReadRequest request(uint64_t id) const {
    return {.id = id, .file = file, .offset = offset, .bytes = bytes, .destination = destination};
  }
};

enum class ReadOutcome {
  kDone,    // all that is needed has arrived
  kAgain,   // submit the rest
  kFailed,  // given up: `error` says why
};

// Takes the result of a try into account.  A short result counts as progress as far as whole aligned blocks
// have arrived; the block that was cut is read again, since direct I/O cannot start in its middle.
inline ReadOutcome advance(PendingRead& read, int64_t result, ReadAlignment alignment, int attempts) {
  assert(result <= static_cast<int64_t>(read.bytes));
  if (result >= static_cast<int64_t>(read.needed)) return ReadOutcome::kDone;
  const uint32_t block =
      alignment.offset_bytes > alignment.memory_bytes ? alignment.offset_bytes : alignment.memory_bytes;
  const uint32_t progress = result > 0 ? static_cast<uint32_t>(result) / block * block : 0;
  if (progress == 0) {
    read.error = result < 0 ? static_cast<int>(-result) : 0;
    return ++read.failures < attempts ? ReadOutcome::kAgain : ReadOutcome::kFailed;
  }
  read.offset += progress;
  read.destination += progress;
  read.bytes -= progress;
  read.needed -= progress;
  return ReadOutcome::kAgain;
}

// How long to leave a drive alone before a read that has brought nothing is tried again: 1, 4, then always 16
// ms, long enough for a drive that is busy with itself and too short to be noticed where it does not help.
inline int64_t backoff_us(const PendingRead& read) {
  return read.failures == 1 ? 1'000 : read.failures == 2 ? 4'000 : 16'000;
}

}  // namespace odmoe
