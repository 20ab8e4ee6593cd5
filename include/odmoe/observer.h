// Observing a model while it runs: what its routers see, and what they choose.
#pragma once

#include <cstdint>
#include <span>

#include "odmoe/result.h"
#include "odmoe/session.h"

namespace odmoe {

// The tokens of one evaluation, at most EngineOptions::chunk.  Valid during the call.
struct ObservedTokens {
  std::span<const Token> tokens;
  int32_t first_position = 0;        // in the session's timeline
  std::span<const float> embedding;  // [n_embd, n_token], what the first layer begins with
};

// What happened to them in one layer with experts.  Valid during the call.
struct ObservedLayer {
  int32_t layer = 0;  // counted over all layers, those without experts too
  int32_t n_token = 0;
  std::span<const float> attention_input;  // [n_embd, n_token], the residual before the layer's first norm
  std::span<const float> router_input;     // [n_embd, n_token], after attention and the layer's second norm
  std::span<const int32_t> experts;        // [n_expert_used, n_token], best first
  std::span<const float> weights;  // [n_expert_used, n_token], what the experts' outputs are scaled by
};

// Called in the middle of evaluations, by the thread that evaluates: on_tokens(), then on_layer() for each
// layer with experts in order, before those experts have run.  Of the engine it may call interrupt() only. An
// error ends the evaluation with that error.
class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;
  virtual Status on_tokens(const ObservedTokens& tokens) = 0;
  virtual Status on_layer(const ObservedLayer& layer) = 0;
};

}  // namespace odmoe
