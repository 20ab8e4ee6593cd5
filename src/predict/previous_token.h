// What a layer chose for the tokens before, it chooses again: experts ranked by how many tokens ago and how
// often they were last chosen.  The chance of that is counted while it runs, so the scores are log-odds.
// Needs no state of the model and knows every layer before the token's first has run.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "predict/odds_calibration.h"
#include "predict/predictor.h"

namespace odmoe {

// One owner.
class PreviousToken final : public Predictor {
 public:
  explicit PreviousToken(const PredictorShape& shape);

  std::string_view name() const override { return "previous-token"; }
  bool calibrated() const override { return true; }
  uint64_t bytes() const override;
  void begin_sequence() override;
  Result<int32_t> begin_token(std::span<const float> embedding, std::span<float> scores) override;
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override;
  void learn(const RoutingState& state) override;

 private:
  // By how many tokens ago (1, 2, 3, 4, 5-8, 9-16, ... 129-256, earlier or never) and by how often of late
  // (relative to chance, in powers of two).
  static constexpr size_t kAges = 11, kRates = 8;
  size_t cell(size_t layer, size_t expert) const;
  void rank(size_t layer, std::span<float> row) const;

  size_t n_layer_, n_expert_, lookahead_;
  float chance_;
  std::vector<int64_t> token_;   // per layer, tokens it has routed
  std::vector<int64_t> last_;    // [n_expert, n_layer], token_ when it was last chosen; kNever
  std::vector<float> rate_;      // [n_expert, n_layer], how often of late
  OddsBins odds_;                // [kRates, kAges]
  std::vector<float> log_odds_;  // the same, for reading
  std::vector<uint8_t> is_chosen_;
};

}  // namespace odmoe
