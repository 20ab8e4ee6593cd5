// Writes down what an engine's routers see and choose.
#pragma once

#include <cstdint>
#include <vector>

#include "odmoe/observer.h"
#include "predict/routing_data.h"

namespace odmoe {

// One owner, who sets it as the engine's observer.  Call begin_document() before a timeline begins.
class RoutingRecorder final : public RoutingObserver {
 public:
  RoutingRecorder(const RoutedModel& model, const RecordedStates& states);

  // What is evaluated from now on is document number `document`.
  void begin_document(int32_t document) { document_ = document; }

  Status on_tokens(const ObservedTokens& tokens) override;
  Status on_layer(const ObservedLayer& layer) override;

  // What was recorded since the last take().  Whole once the evaluation has ended without an error.
  const RoutingShard& shard() const { return shard_; }
  RoutingShard take();
  // Values of states that were beyond the range of f16, since the beginning.
  uint64_t n_clamped() const { return n_clamped_; }

 private:
  // One token's state -> f16.  kBadFile for what is no number.
  Status store(std::span<const float> state, uint16_t* halves);

  size_t n_layer_, n_embd_, n_used_;
  RecordedStates states_;
  int32_t document_ = 0;
  size_t first_ = 0;  // token of the evaluation in progress, in shard_
  size_t layer_ = 0;  // index of the layer that comes next
  RoutingShard shard_;
  std::vector<float> clamped_;  // [n_embd]
  uint64_t n_clamped_ = 0;
};

}  // namespace odmoe
