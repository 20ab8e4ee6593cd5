// Lets a BatchForesight follow the steps of a forward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/batch_foresight.h"
#include "engine/evaluation_memory.h"
#include "engine/routing_event.h"
#include "model/decoder.h"

namespace odmoe {

// One owner.
class BatchForesightSink {
 public:
  // All must outlive it.
  BatchForesightSink(std::unique_ptr<BatchForesight> foresight, Predictor::Wants wants,
                     const Decoder& decoder, const Clock& clock);

  BatchForesight& foresight() { return *foresight_; }
  const BatchForesight& foresight() const { return *foresight_; }

  // The tokens in these columns are going to be evaluated.
  Status begin(const EvaluationColumns& a, std::span<const int32_t> columns);
  // A layer's routers have spoken, and what they want has been leased; `event` is of the tokens in these
  // lanes.
  Status on_routing(const RoutingEvent& event, const EvaluationMemory& memory,
                    std::span<const int32_t> lanes);
  // They have been evaluated.
  void end() { foresight_->end_step(clock_->now_us()); }

 private:
  std::unique_ptr<BatchForesight> foresight_;
  Predictor::Wants wants_;
  const Decoder* decoder_;
  const Clock* clock_;
  std::vector<float> embedding_;  // [n_embd], for predictors that want it
  bool active_ = false;           // for this step
};

}  // namespace odmoe
