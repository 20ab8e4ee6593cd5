#include "engine/memory_grant.h"

#include <algorithm>
#include <cassert>

namespace odmoe {

MemoryGrant::MemoryGrant(uint64_t grant_bytes, uint64_t least_bytes, uint64_t most_bytes,
                         uint64_t margin_bytes)
    : grant_(grant_bytes), least_(least_bytes), most_(most_bytes), margin_(margin_bytes) {
  assert(least_ <= grant_ && grant_ <= most_);
}

void MemoryGrant::set(uint64_t bytes) { grant_ = std::clamp(bytes, least_, most_); }

uint64_t MemoryGrant::next(const MemorySample& sample) {
  const uint64_t all = sample.resident_bytes + sample.available_bytes;
  const uint64_t possible = all > margin_ ? all - margin_ : 0;
  const uint64_t deadband = margin_ / 4;
  const int64_t elapsed_us = sample.now_us - last_us_;
  const bool stalled = seen_any_ && elapsed_us > 0 && sample.stall_us > last_stall_us_ &&
                       sample.stall_us - last_stall_us_ > static_cast<uint64_t>(elapsed_us) / 10;
  if (!seen_any_) stepped_us_ = sample.now_us - kStepUs;
  seen_any_ = true;
  last_us_ = sample.now_us;
  last_stall_us_ = sample.stall_us;

  const bool may_step = sample.now_us - stepped_us_ >= kStepUs;
  if (possible + deadband < grant_) {
    ample_since_us_ = -1;
    set(possible);
  } else if (stalled) {
    ample_since_us_ = -1;
    if (sample.available_bytes < 2 * margin_ && may_step) {
      set(grant_ - grant_ / 16);
      stepped_us_ = sample.now_us;
    }
  } else if (possible <= grant_ + 2 * deadband || grant_ == most_) {
    ample_since_us_ = -1;
  } else {
    if (ample_since_us_ < 0) {
      ample_since_us_ = sample.now_us;
      least_possible_ = possible;
    }
    least_possible_ = std::min(least_possible_, possible);
    if (sample.now_us - ample_since_us_ >= kPatienceUs && may_step) {
      set(std::min(grant_ + grant_ / 8, std::max(grant_, least_possible_ - deadband)));
      stepped_us_ = sample.now_us;
    }
  }
  return grant_;
}

}  // namespace odmoe
