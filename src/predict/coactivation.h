// Experts of a layer go together with experts of the layers after it: a table, counted while it runs, of how
// often expert e' of layer L + d was chosen for a token for which expert e of layer L was.  Beyond the last
// layer it goes on with the first layers of the next token.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "predict/odds_calibration.h"
#include "predict/predictor.h"

namespace odmoe {

// Holds 2 bytes * n_layer * lookahead * n_expert^2 (71 MB for 60 layers of 384 experts, four ahead).  One
// owner.
class Coactivation final : public Predictor {
 public:
  explicit Coactivation(const PredictorShape& shape);

  std::string_view name() const override { return "coactivation"; }
  bool calibrated() const override { return true; }
  uint64_t bytes() const override;
  void begin_sequence() override;
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override;
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override;
  void learn(const RoutingState& state) override;

 private:
  // What a layer chose, the last few being kept.
  struct Choice {
    std::vector<int32_t> experts;
    std::vector<float> weights;
  };
  size_t source(size_t layer, size_t distance, int32_t expert) const;
  // The layers that follow `layer`, from `choice` of it; null: nothing is known of what it chose.
  void rank(size_t layer, const Choice* choice, std::span<float> scores);
  void count(size_t layer, const Choice& before, size_t distance, std::span<const int32_t> chosen);

  size_t n_layer_, n_expert_, n_used_, lookahead_;
  float chance_;
  std::vector<uint16_t> pairs_;    // [n_expert (then), n_expert (now), lookahead, n_layer (now)]
  std::vector<uint16_t> sources_;  // [n_expert (now), lookahead, n_layer (now)], how often it was counted
  std::vector<float> rate_;        // [n_expert, n_layer], how often of late
  std::vector<Choice> recent_;     // ring over layers, the last at position_ - 1
  size_t position_ = 0, n_recent_ = 0;
  OddsCalibration calibration_;
};

}  // namespace odmoe
