// What guesses are worth: how likely it is that an expert named at some rank, some layers ahead, will be
// wanted when it is not in memory.  The others are right more often, and nothing is to be gained by them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "predict/predictor.h"
#include "predict/rank_calibration.h"
#include "store/expert_store.h"

namespace odmoe {

// What was said of one layer's experts, best first, from one distance.
struct GuessList {
  bool made = false;
  std::vector<int32_t> experts;
  std::vector<uint8_t> absent;  // by rank: the expert was not in memory when this was said

  // Room for what may be worth a read.
  explicit GuessList(const PredictorShape& shape);
  // One row of a predictor's scores, of a layer (the model's number).
  void make(const ExpertStore& store, int layer, std::span<const float> scores);
};

// One owner.  Allocates at creation alone.
class GuessWorth {
 public:
  GuessWorth(const PredictorShape& shape, int32_t lookahead);

  // The list was said of the layer with this index, `distance` (1 ..) layers ahead of it, and its router then
  // chose `chosen`.
  void observe(size_t layer, size_t distance, const GuessList& said, std::span<const int32_t> chosen);
  // That the expert at `rank` (0 ..), being absent, will be wanted.
  double probability(size_t layer, size_t distance, size_t rank) const;
  // That one of `n_token` tokens, or more, will want an expert from which a read of it pays, on a drive that
  // is at work for `busy_share` of the time.
  double least_probability(double busy_share, PrefetchDepth depth, size_t n_token = 1) const;

 private:
  // How often absent experts of a layer were wanted, and how often that was to be expected of their ranks.
  struct LayerWorth {
    double hits = 0, expected = 0;
  };
  size_t lookahead_;
  double chance_;                        // that a router chooses an expert, whichever
  RankCalibration ranks_;                // of all layers
  std::vector<LayerWorth> layer_worth_;  // [lookahead, n_layer]
};

}  // namespace odmoe
