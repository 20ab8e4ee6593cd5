// What a rank of a predictor's list is worth: how often the expert named first, second, ... for a layer some
// distance ahead was then chosen, with old observations fading.  Turns any ranking into probabilities, by
// which a reader of hints decides how many of them to follow.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace odmoe {

// One owner.  Allocates at creation alone.
class RankCalibration {
 public:
  // An observation counts half as much after so many later ones at its distance.
  static constexpr double kHalfLife = 20'000;

  // Of lists up to `n_rank` long, for layers 1 .. lookahead ahead.  Until something is observed, every rank
  // is taken to be worth n_expert_used / n_expert, which is chance.
  RankCalibration(int32_t lookahead, int32_t n_rank, int32_t n_expert, int32_t n_expert_used);

  // `ranked`, best first, was said of a layer `distance` (1 ..) ahead, whose router then chose `chosen`.
  // Where `counts` is given, only of the ranks for which it is not 0.
  void observe(int32_t distance, std::span<const int32_t> ranked, std::span<const int32_t> chosen,
               std::span<const uint8_t> counts = {});

  // Probability that the expert at `rank` (0 ..) of a list is chosen; never rises with the rank.
  double probability(int32_t distance, int32_t rank) const;

 private:
  size_t at(int32_t distance, int32_t rank) const;

  int32_t n_rank_;
  double chance_;
  std::vector<double> trials_, hits_;  // [n_rank, lookahead]
};

}  // namespace odmoe
