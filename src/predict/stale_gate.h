// A later layer's own router, asked about what this layer's router saw, and before the first layer about the
// token's embedding.  Who has the routers (the engine
// through its model, or a data directory) lends them; this ranks what they say, and counts what a lead of so
// much over the last expert chosen has been worth, so that the scores are log-odds.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "predict/odds_calibration.h"
#include "predict/predictor.h"

namespace odmoe {

// One owner.
class StaleGate final : public Predictor {
 public:
  // Marks the experts of layer index `target` (later than state.layer) from what is known at state.layer,
  // marks [n_expert], higher is likelier: what that router would choose by, its selection bias included.
  using Router = std::function<Status(const RoutingState& state, size_t target, std::span<float> marks)>;
  // Likewise from what is known when a token begins.
  using FirstRouter =
      std::function<Status(std::span<const float> embedding, size_t target, std::span<float> marks)>;

  // `wants`: what of the state the routers need, if they do not have it already.  A token whose embedding is
  // not known is not foreseen before its first layer.
  StaleGate(const PredictorShape& shape, Router router, FirstRouter first_router, Wants wants);

  std::string_view name() const override { return "stale-gate"; }
  Wants wants() const override { return wants_; }
  bool calibrated() const override { return true; }
  uint64_t bytes() const override { return calibration_.bytes(); }
  void begin_sequence() override { calibration_.begin_sequence(); }
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override;
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override;
  void learn(const RoutingState& state) override { calibration_.learn(state.experts); }

 private:
  // `ask(target, marks)` for as many layers from `first` on as there are, at most the lookahead.
  template <typename Ask>
  Result<int32_t> rank(size_t first, std::span<float> scores, Ask&& ask);

  size_t n_layer_, n_expert_, lookahead_;
  Router router_;
  FirstRouter first_router_;
  Wants wants_;
  std::vector<int32_t> best_;  // [n_expert_used + 1]
  OddsCalibration calibration_;
};

}  // namespace odmoe
