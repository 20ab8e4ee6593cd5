// How much a compilation may take, and whether it is still wanted.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

namespace odmoe::grammar {

// Whether nobody waits for it any more; empty: somebody always does.
using Stop = std::function<bool()>;

// Of one compilation; a step is a state, an edge or a keyword looked at, some 10 to 100 ns.
inline constexpr uint64_t kMaxCompileSteps = 8'000'000;
// How often Stop is asked, in steps.
inline constexpr uint64_t kStepsPerLook = 1024;

// One owner.
class Work {
 public:
  explicit Work(Stop stop = {}, uint64_t steps = kMaxCompileSteps)
      : stop_(std::move(stop)), steps_(steps), left_(steps) {}

  // False when it is over, and from then on: the caller gives up.
  bool spend(uint64_t steps = 1) {
    if (over_) return false;
    since_look_ += steps;
    if (since_look_ >= kStepsPerLook) {
      since_look_ = 0;
      stopped_ = stop_ && stop_();
    }
    over_ = stopped_ || steps > left_;
    left_ -= over_ ? left_ : steps;
    return !over_;
  }
  uint64_t spent() const { return steps_ - left_; }
  bool over() const { return over_; }
  bool stopped() const { return stopped_; }  // it was asked to stop, rather than out of steps

 private:
  Stop stop_;
  uint64_t steps_, left_;
  uint64_t since_look_ = 0;
  bool over_ = false, stopped_ = false;
};

}  // namespace odmoe::grammar
