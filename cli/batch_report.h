// What `odmoe batch` tells people of how far it is.
#pragma once

#include <string>

#include "base/clock.h"
#include "server/batch/batch_runner.h"

namespace odmoe::cli {

// "5:07", "1:05:07".
std::string duration_text(double seconds);

// From now on.  One owner.
class BatchPace {
 public:
  explicit BatchPace(const Clock& clock = SteadyClock::instance())
      : clock_(&clock), start_us_(clock.now_us()) {}

  // "123 of 1000 requests, 45.2 tokens/s, 1:05:07 left".
  std::string text(const server::BatchCounts& counts) const;
  // "1000 requests, 3 with an error; 20000 prompt tokens, 123456 tokens at 45.2/s in 1:05:07".
  std::string summary(const server::BatchCounts& counts) const;

 private:
  double seconds() const { return static_cast<double>(clock_->now_us() - start_us_) * 1e-6; }
  const Clock* clock_;
  int64_t start_us_;
};

}  // namespace odmoe::cli
