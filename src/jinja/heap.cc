#include "jinja/heap.h"

#include "jinja/failure.h"

namespace odmoe::jinja {

void Heap::take(size_t bytes) {
  if (bytes > limits_.memory_bytes - used_bytes_) {
    raise(FailureKind::kLimit, "takes more than {} KiB of memory", limits_.memory_bytes >> 10U);
  }
  used_bytes_ += bytes;
}

void Heap::enter() {
  if (depth_ == kMaxDepth) raise(FailureKind::kLimit, "calls itself more than {} levels deep", kMaxDepth);
  ++depth_;
}

void Heap::work(size_t steps) {
  if (steps > limits_.steps - steps_) {
    raise(FailureKind::kLimit, "takes more than {} steps", limits_.steps);
  }
  steps_ += steps;
  if (goes_on_ && steps_ - asked_at_ >= kStepsBetweenQuestions) {
    asked_at_ = steps_;
    if (!goes_on_()) raise(FailureKind::kEnded, "was ended");
  }
}

}  // namespace odmoe::jinja
