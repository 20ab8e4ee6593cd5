// Lets a Foresight follow the single tokens of a forward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/foresight.h"
#include "engine/routing_event.h"
#include "model/decoder.h"
#include "model/sequence_state.h"

namespace odmoe {

// One owner.
class ForesightSink final : public RoutingSink {
 public:
  // All must outlive it.
  ForesightSink(std::unique_ptr<Foresight> foresight, const Decoder& decoder, const Clock& clock);

  Foresight& foresight() { return *foresight_; }
  const Foresight& foresight() const { return *foresight_; }

  // A token is going to be evaluated as the next one of the timeline in `state`.
  Status begin(const SequenceState& state, int32_t token);
  // Of chunks nothing is foreseen, and of tokens of several timelines not here (BatchForesight).
  Status on_routing(const RoutingEvent& event) override;
  // The token that begin() named has been evaluated.
  void end();

 private:
  std::unique_ptr<Foresight> foresight_;
  const Decoder* decoder_;
  const Clock* clock_;
  std::vector<float> embedding_;             // [n_embd], for predictors that want it
  std::vector<Foresight::Certain> certain_;  // of layers whose experts the token says; empty without any
  // The timeline and the position at which the last token that was foreseen would be followed.
  const SequenceState* state_ = nullptr;
  int64_t next_ = -1;
};

}  // namespace odmoe
