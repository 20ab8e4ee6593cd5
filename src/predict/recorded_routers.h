// A model's routers as a collection has them, asked about recorded states: what the stale gate and the
// control need where the model itself is not there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "predict/predictor.h"
#include "predict/routing_data.h"

namespace odmoe {

// Immutable; one owner all the same, as it keeps scratch memory.
class RecordedRouters {
 public:
  // As read_routers() gives them: one for each layer with experts, in order.
  RecordedRouters(const RoutedModel& model, std::vector<RouterWeights> routers);

  // Marks [n_expert], higher is chosen sooner, that the router of layer index `target` gives to the state
  // that the router of layer index `layer` saw (after that layer's norm, which is exchanged for the
  // target's). What a router takes into account for its choice is in them: selection bias, groups.
  void mark(size_t layer, std::span<const float> router_input, size_t target, std::span<float> marks);
  // Likewise of a token's embedding, before any norm.
  void mark_embedding(std::span<const float> embedding, size_t target, std::span<float> marks);

 private:
  void add_norm_bias(const RouterWeights& router);                       // to state_
  void mark_state(const RouterWeights& router, std::span<float> marks);  // of state_
  void exclude_groups(std::span<float> marks);

  RouterRule rule_;
  std::vector<RouterWeights> routers_;
  std::vector<float> state_;         // [n_embd]
  std::vector<float> group_scores_;  // [n_group]
  std::vector<int32_t> groups_;      // [n_group]
};

// The stale gate on recorded data.
std::unique_ptr<Predictor> make_recorded_stale_gate(const PredictorShape& shape, const RoutedModel& model,
                                                    std::vector<RouterWeights> routers);

}  // namespace odmoe
