#include "engine/guess_worth.h"

#include <algorithm>
#include <cmath>

namespace odmoe {
namespace {

// Lists are as long as this many times what a router chooses: what may be worth a read.
constexpr int32_t kListFactor = 2;
// By how much less a read that is not wanted delays others where many are in flight; measured
// (docs/shadow-model.md).
constexpr double kDelayAmongMany = 1.0 / 3;
// What a layer shows of its own counts fully only after so many absent experts were wanted, and less the
// longer ago it was.
constexpr double kLayerPrior = 8, kLayerFade = 0.999;

int32_t n_rank(const PredictorShape& shape) {
  return std::min(shape.n_expert, kListFactor * shape.n_expert_used);
}

}  // namespace

GuessList::GuessList(const PredictorShape& shape)
    : experts(static_cast<size_t>(n_rank(shape))), absent(experts.size()) {}

void GuessList::make(const ExpertStore& store, int layer, std::span<const float> scores) {
  best_experts(scores, experts);
  made = true;
  for (size_t rank = 0; rank < experts.size(); ++rank) {
    absent[rank] = store.residency({layer, experts[rank]}) == Residency::kAbsent ? 1 : 0;
  }
}

GuessWorth::GuessWorth(const PredictorShape& shape, int32_t lookahead)
    : lookahead_(static_cast<size_t>(lookahead)),
      chance_(static_cast<double>(shape.n_expert_used) / shape.n_expert),
      ranks_(lookahead, n_rank(shape), shape.n_expert, shape.n_expert_used),
      layer_worth_(shape.n_layer() * lookahead_) {}

void GuessWorth::observe(size_t layer, size_t distance, const GuessList& said,
                         std::span<const int32_t> chosen) {
  LayerWorth& worth = layer_worth_[layer * lookahead_ + distance - 1];
  for (size_t rank = 0; rank < said.experts.size(); ++rank) {
    if (said.absent[rank] == 0) continue;
    const bool wanted = std::ranges::contains(chosen, said.experts[rank]);
    worth.hits = worth.hits * kLayerFade + (wanted ? 1 : 0);
    worth.expected = worth.expected * kLayerFade +
                     ranks_.probability(static_cast<int32_t>(distance), static_cast<int32_t>(rank));
  }
  ranks_.observe(static_cast<int32_t>(distance), said.experts, chosen, said.absent);
}

double GuessWorth::probability(size_t layer, size_t distance, size_t rank) const {
  const LayerWorth& worth = layer_worth_[layer * lookahead_ + distance - 1];
  const double factor = (worth.hits + kLayerPrior) / (worth.expected + kLayerPrior);
  return std::min(ranks_.probability(static_cast<int32_t>(distance), static_cast<int32_t>(rank)) * factor,
                  1.0);
}

// A read that is not wanted delays one that is by as long as it takes itself, if the drive is busy then; one
// that is wanted saves as much.  With probability p of being wanted and a drive that is busy for a share u of
// the time, it pays where p > (1 - p) u.  A drive for which many reads at a time are the better choice works
// on several at once, and is delayed by less.  And what is no likelier than any other expert is no guess.
double GuessWorth::least_probability(double busy_share, PrefetchDepth depth, size_t n_token) const {
  const double delay = depth == PrefetchDepth::kMany ? kDelayAmongMany * busy_share : busy_share;
  // Beyond what rounding makes of as many guesses that are worth nothing.
  const double any = n_token == 1 ? chance_ : 1 - std::pow(1 - chance_, static_cast<double>(n_token)) + 1e-9;
  return std::max(delay / (1 + delay), any);
}

}  // namespace odmoe
