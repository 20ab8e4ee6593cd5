// How much memory the process may have while others on the machine come and go.  Decides only: what it knows
// is told, so that any course of events can be a test.
#pragma once

#include <cstdint>

namespace odmoe {

// What the system says at one moment.
struct MemorySample {
  int64_t now_us = 0;
  uint64_t available_bytes = 0;  // what this process could still take (base/memory_info.h)
  uint64_t resident_bytes = 0;   // what it has
  uint64_t stall_us = 0;         // counter of time in which tasks waited for memory
};

// Quick to give and slow to take: what others need must be there before the system swaps or kills, while
// memory that is free for a moment is not worth the evictions when it is wanted back.
//   - resident + available - margin is what the process could have.  It does not depend on how much of its
//     grant the process has touched so far.
//   - When that is below the grant by more than a deadband (a quarter of the margin), the grant falls to it
//   at
//     once.
//   - When tasks wait for memory more than a tenth of the time although less than two margins are free, the
//     grant falls by a sixteenth, at most once a second.
//   - When it has been above the grant by more than two deadbands for kPatienceUs, without such waiting, the
//     grant rises by an eighth a second, to a deadband below the least that was seen meanwhile.
class MemoryGrant {
 public:
  static constexpr int64_t kPatienceUs = 3'000'000;
  static constexpr int64_t kStepUs = 1'000'000;

  // The grant begins as `grant_bytes` and stays between `least_bytes` and `most_bytes`.
  MemoryGrant(uint64_t grant_bytes, uint64_t least_bytes, uint64_t most_bytes, uint64_t margin_bytes);

  uint64_t bytes() const { return grant_; }
  // The grant after this sample.  Samples come in order of time.
  uint64_t next(const MemorySample& sample);

 private:
  void set(uint64_t bytes);

  uint64_t grant_, least_, most_, margin_;
  bool seen_any_ = false;
  int64_t last_us_ = 0;
  uint64_t last_stall_us_ = 0;
  int64_t ample_since_us_ = -1;  // since when there has been more than the grant; -1: there is not
  uint64_t least_possible_ = 0;  // what the process could have had in that time, the least of it
  int64_t stepped_us_ = 0;       // when the grant last rose or fell by a step
};

}  // namespace odmoe
