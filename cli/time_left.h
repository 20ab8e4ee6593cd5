// How far a long work with bytes is, in words.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace odmoe::cli {

// From now on.  One owner.
class TimeLeft {
 public:
  // `begin` bytes were done before; they say nothing of how fast it is.
  explicit TimeLeft(uint64_t begin = 0, const Clock& clock = SteadyClock::instance())
      : clock_(&clock), begin_(begin), start_us_(clock.now_us()) {}

  // "1.20 GiB of 3.40 GiB, 0:42 left"; with `rate` "..., 85.0 MiB/s, 0:42 left".
  std::string text(uint64_t done, uint64_t total, bool rate = false) const;

 private:
  const Clock* clock_;
  uint64_t begin_;
  int64_t start_us_;
};

}  // namespace odmoe::cli
