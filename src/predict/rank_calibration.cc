#include "predict/rank_calibration.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace odmoe {
namespace {

// As many observations at the value of chance that every rank starts with: a few tokens outweigh them.
constexpr double kPrior = 4;

}  // namespace

RankCalibration::RankCalibration(int32_t lookahead, int32_t n_rank, int32_t n_expert, int32_t n_expert_used)
    : n_rank_(n_rank), chance_(static_cast<double>(n_expert_used) / n_expert) {
  const auto n = static_cast<size_t>(lookahead) * static_cast<size_t>(n_rank);
  trials_.assign(n, kPrior);
  hits_.assign(n, kPrior * chance_);
}

size_t RankCalibration::at(int32_t distance, int32_t rank) const {
  return static_cast<size_t>(distance - 1) * static_cast<size_t>(n_rank_) + static_cast<size_t>(rank);
}

void RankCalibration::observe(int32_t distance, std::span<const int32_t> ranked,
                              std::span<const int32_t> chosen, std::span<const uint8_t> counts) {
  static const double kFade = std::exp2(-1 / kHalfLife);
  assert(at(distance, 0) < trials_.size());
  const size_t n = std::min(ranked.size(), static_cast<size_t>(n_rank_));
  for (size_t rank = 0; rank < n; ++rank) {
    if (!counts.empty() && counts[rank] == 0) continue;
    const size_t i = at(distance, 0) + rank;
    trials_[i] = trials_[i] * kFade + 1;
    hits_[i] = hits_[i] * kFade + (std::ranges::contains(chosen, ranked[rank]) ? 1 : 0);
  }
}

double RankCalibration::probability(int32_t distance, int32_t rank) const {
  if (rank >= n_rank_) return 0;
  // Ranks are few and noisy; a later one that looks better than an earlier is noise.
  double least = 1;
  for (int32_t r = 0; r <= rank; ++r)
    least = std::min(least, hits_[at(distance, r)] / trials_[at(distance, r)]);
  return least;
}

}  // namespace odmoe
