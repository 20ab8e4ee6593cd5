#include "predict/metrics.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "predict/predictor.h"

namespace odmoe {
namespace {

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

double PredictionCell::recall(size_t i) const {
  return ratio(static_cast<double>(recalled[i]), static_cast<double>(routings) * ks[i]);
}

double PredictionCell::recall() const { return ks.empty() ? 0 : recall(ks.size() - 1); }

double PredictionCell::weight_share() const { return ratio(weight_covered, weight); }

double PredictionCell::precision(size_t i) const {
  return ratio(static_cast<double>(useful[i]), static_cast<double>(routings) * kHints[i]);
}

double PredictionCell::coverage(size_t i) const {
  return ratio(static_cast<double>(useful[i]), static_cast<double>(routings * n_used));
}

double PredictionCell::weight_coverage(size_t i) const { return ratio(weight_useful[i], weight); }

double PredictionCell::calibration_error() const {
  double error = 0, experts = 0;
  for (const Probability& bin : probabilities) {
    error += std::abs(static_cast<double>(bin.chosen) - bin.sum);
    experts += static_cast<double>(bin.experts);
  }
  return ratio(error, experts);
}

void PredictionCell::merge(const PredictionCell& other) {
  if (ks.empty()) {
    n_used = other.n_used;
    ks = other.ks;
    recalled.resize(ks.size());
  }
  assert(n_used == other.n_used);
  routings += other.routings;
  for (size_t i = 0; i < ks.size(); ++i) recalled[i] += other.recalled[i];
  for (size_t i = 0; i < kHints.size(); ++i) {
    useful[i] += other.useful[i];
    weight_useful[i] += other.weight_useful[i];
  }
  weight_covered += other.weight_covered;
  weight += other.weight;
  for (size_t i = 0; i < kProbabilityBins; ++i) {
    probabilities[i].experts += other.probabilities[i].experts;
    probabilities[i].chosen += other.probabilities[i].chosen;
    probabilities[i].sum += other.probabilities[i].sum;
  }
}

PredictionMetrics::PredictionMetrics(size_t n_layer, int32_t lookahead, int32_t n_expert,
                                     int32_t n_expert_used)
    : n_layer_(n_layer),
      lookahead_(lookahead),
      best_(static_cast<size_t>(std::min(n_expert, std::max(n_expert_used, PredictionCell::kHints.back())))),
      rank_(static_cast<size_t>(n_expert)),
      is_chosen_(static_cast<size_t>(n_expert)) {
  PredictionCell cell;
  cell.n_used = static_cast<uint64_t>(n_expert_used);
  for (const int32_t k : {1, 4, 8}) {
    if (k < n_expert_used) cell.ks.push_back(k);
  }
  cell.ks.push_back(n_expert_used);
  cell.recalled.resize(cell.ks.size());
  cells_.assign(n_layer * static_cast<size_t>(lookahead), cell);
}

void PredictionMetrics::add(size_t layer, int32_t distance, std::span<const float> scores, bool calibrated,
                            std::span<const int32_t> chosen, std::span<const float> weights) {
  assert(layer < n_layer_ && distance >= 1 && distance <= lookahead_);
  PredictionCell& cell = cells_[layer * static_cast<size_t>(lookahead_) + static_cast<size_t>(distance - 1)];
  best_experts(scores, best_);
  std::ranges::fill(rank_, static_cast<int32_t>(scores.size()));
  for (size_t i = 0; i < best_.size(); ++i) rank_[static_cast<size_t>(best_[i])] = static_cast<int32_t>(i);

  ++cell.routings;
  for (size_t i = 0; i < chosen.size(); ++i) {
    const int32_t rank = rank_[static_cast<size_t>(chosen[i])];
    for (size_t k = 0; k < cell.ks.size(); ++k) {
      if (std::cmp_less(i, cell.ks[k]) && rank < cell.ks[k]) ++cell.recalled[k];
    }
    for (size_t h = 0; h < PredictionCell::kHints.size(); ++h) {
      if (rank >= PredictionCell::kHints[h]) continue;
      ++cell.useful[h];
      cell.weight_useful[h] += weights[i];
    }
    cell.weight += weights[i];
    if (std::cmp_less(rank, cell.n_used)) cell.weight_covered += weights[i];
  }

  if (!calibrated) return;
  std::ranges::fill(is_chosen_, uint8_t{0});
  for (const int32_t expert : chosen) is_chosen_[static_cast<size_t>(expert)] = 1;
  for (size_t expert = 0; expert < scores.size(); ++expert) {
    const double p = 1 / (1 + std::exp(-static_cast<double>(scores[expert])));
    const auto bin = std::min(static_cast<size_t>(p * PredictionCell::kProbabilityBins),
                              PredictionCell::kProbabilityBins - 1);
    ++cell.probabilities[bin].experts;
    cell.probabilities[bin].chosen += is_chosen_[expert];
    cell.probabilities[bin].sum += p;
  }
}

const PredictionCell& PredictionMetrics::cell(size_t layer, int32_t distance) const {
  return cells_[layer * static_cast<size_t>(lookahead_) + static_cast<size_t>(distance - 1)];
}

PredictionCell PredictionMetrics::total(int32_t distance, size_t first_layer) const {
  PredictionCell sum;
  for (size_t layer = first_layer; layer < n_layer_; ++layer) sum.merge(cell(layer, distance));
  return sum;
}

}  // namespace odmoe
