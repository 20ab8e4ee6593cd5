// What the routers of a layer chose, for everybody who wants to know.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "odmoe/result.h"

namespace odmoe {

// Of the tokens of one evaluation in one layer with experts.  Valid during the call.
struct RoutingEvent {
  size_t index = 0;  // among the layers with experts
  int layer = 0;     // among all
  int64_t n_token = 0;
  std::span<const int32_t> experts;      // [n_expert_used, n_token], best first
  std::span<const float> weights;        // [n_expert_used, n_token], what the outputs are scaled by
  std::span<const float> probabilities;  // [n_expert, n_token], of Router::route()

  // The rest is of tokens of one timeline; those of several come without.
  std::span<const int32_t> tokens;         // [n_token]
  int64_t first_position = 0;              // of the first token
  std::span<const float> attention_input;  // [n_embd, n_token], the residual before the layer's attention
  std::span<const float> residual;         // [n_embd, n_token], after it
  // Of models with streams: after attention [n_embd * n_stream, n_token]; banked [n_embd * n_bank, n_token].
  std::span<const float> streams, banked;
  std::span<const float> router_input;  // [n_embd, n_token], after the layer's second norm
  bool of_one_timeline() const { return !tokens.empty(); }
};

// Called by the thread that evaluates, for each layer with experts in order.  An error ends the evaluation.
class RoutingSink {
 public:
  virtual ~RoutingSink() = default;
  virtual Status on_routing(const RoutingEvent& event) = 0;
};

}  // namespace odmoe
