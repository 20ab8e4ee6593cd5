// The stale gate by the model's own routers in memory: those of later layers are asked about what this
// layer's router saw, and before the first one about the token's embedding.  Costs neither training nor
// memory; predict/stale_gate.h is the same on recorded data.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/blocks/router.h"
#include "model/decoder.h"
#include "model/graph.h"
#include "predict/predictor.h"

namespace odmoe {

// Reads Activations::residual itself, so it must be asked between a layer's segment and its experts, about
// the evaluation under way, of one token; before the first layer's segment it writes there.  Nothing is said
// of the next token's layers.
class LiveStaleGate final : public Predictor {
 public:
  // All of these must outlive it; `activations` must have addresses, and those of the graphs come from
  // `allocator`, which has been reserved for Decoder::build_stale_gate().
  LiveStaleGate(Backend& backend, const Decoder& decoder, const Activations& activations,
                ggml_gallocr_t allocator, int32_t lookahead);

  std::string_view name() const override { return "stale-gate"; }
  bool calibrated() const override { return false; }
  bool stands_alone() const override { return false; }
  Wants wants() const override { return {.embedding = true}; }
  uint64_t bytes() const override { return 0; }
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override;
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override;

 private:
  // What the routers of as many layers from `first` on as there are, at most the lookahead, say of
  // Activations::residual.
  Result<int32_t> ask(size_t first, std::span<float> scores);

  Backend* backend_;
  const Decoder* decoder_;
  const Activations* activations_;
  size_t lookahead_;
  std::vector<Graph> graphs_;  // by index among the layers with experts
  Router router_;
  std::vector<int32_t> ids_;
  std::vector<float> weights_;
};

}  // namespace odmoe
