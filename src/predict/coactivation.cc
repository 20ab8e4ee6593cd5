#include "predict/coactivation.h"

#include <algorithm>
#include <cmath>

namespace odmoe {
namespace {

// A source's row is halved when it has been counted so often: what was learnt long ago fades, and 16 bits do.
constexpr uint16_t kFull = 2048;
// A row starts as if the layer's marginal frequencies had been seen in it so often.
constexpr float kPriorCount = 8;
// A choice counts half as much in the marginal frequencies after about 700 tokens.
constexpr float kDecay = 1.0F / 1024;
constexpr float kLogOddsRange = 8;  // log-odds

}  // namespace

Coactivation::Coactivation(const PredictorShape& shape)
    : n_layer_(shape.n_layer()),
      n_expert_(static_cast<size_t>(shape.n_expert)),
      n_used_(static_cast<size_t>(shape.n_expert_used)),
      lookahead_(static_cast<size_t>(shape.lookahead)),
      chance_(static_cast<float>(shape.n_expert_used) / static_cast<float>(shape.n_expert)),
      pairs_(n_layer_ * lookahead_ * n_expert_ * n_expert_),
      sources_(n_layer_ * lookahead_ * n_expert_),
      rate_(n_layer_ * n_expert_, chance_),
      recent_(lookahead_),
      calibration_(shape.lookahead, shape.n_expert, shape.n_expert_used, kLogOddsRange) {
  for (Choice& choice : recent_) {
    choice.experts.reserve(n_used_);
    choice.weights.reserve(n_used_);
  }
}

uint64_t Coactivation::bytes() const {
  return (pairs_.size() + sources_.size()) * sizeof(uint16_t) + rate_.size() * sizeof(float) +
         calibration_.bytes();
}

void Coactivation::begin_sequence() {
  n_recent_ = 0;
  calibration_.begin_sequence();
}

size_t Coactivation::source(size_t layer, size_t distance, int32_t expert) const {
  return (layer * lookahead_ + distance - 1) * n_expert_ + static_cast<size_t>(expert);
}

void Coactivation::rank(size_t layer, const Choice* choice, std::span<float> scores) {
  for (size_t distance = 1; distance <= lookahead_; ++distance) {
    const std::span<float> row = scores.subspan((distance - 1) * n_expert_, n_expert_);
    const std::span<const float> rate(&rate_[(layer + distance) % n_layer_ * n_expert_], n_expert_);
    std::ranges::fill(row, 0.0F);
    float total = 0;
    if (choice != nullptr) {
      for (size_t i = 0; i < choice->experts.size(); ++i) {
        const float weight = std::max(choice->weights[i], 0.0F) + 1e-6F;
        const size_t from = source(layer, distance, choice->experts[i]);
        const std::span<const uint16_t> pairs(&pairs_[from * n_expert_], n_expert_);
        const float part = weight / (static_cast<float>(sources_[from]) + kPriorCount);
        for (size_t e = 0; e < n_expert_; ++e) {
          row[e] += part * (static_cast<float>(pairs[e]) + kPriorCount * rate[e]);
        }
        total += weight;
      }
    }
    for (size_t e = 0; e < n_expert_; ++e) {
      const float p = std::clamp(total > 0 ? row[e] / total : rate[e], 1e-5F, 1 - 1e-5F);
      row[e] = std::log(p / (1 - p));
    }
  }
}

Result<int32_t> Coactivation::begin_token(std::span<const float> /*embedding*/, std::span<float> scores) {
  const auto n = static_cast<int32_t>(std::min(lookahead_, n_layer_));
  rank(n_layer_ - 1, n_recent_ > 0 ? &recent_[(position_ - 1) % lookahead_] : nullptr, scores);
  calibration_.apply(scores, n, false);
  return n;
}

Result<int32_t> Coactivation::predict(const RoutingState& state, std::span<float> scores) {
  rank(state.layer, n_recent_ > 0 ? &recent_[(position_ - 1) % lookahead_] : nullptr, scores);
  calibration_.apply(scores, static_cast<int32_t>(lookahead_), true);
  return static_cast<int32_t>(lookahead_);
}

void Coactivation::count(size_t layer, const Choice& before, size_t distance,
                         std::span<const int32_t> chosen) {
  for (const int32_t expert : before.experts) {
    const size_t from = source(layer, distance, expert);
    const std::span<uint16_t> pairs(&pairs_[from * n_expert_], n_expert_);
    if (sources_[from] == kFull) {
      for (uint16_t& n : pairs) n = static_cast<uint16_t>(n / 2);
      sources_[from] = kFull / 2;
    }
    ++sources_[from];
    for (const int32_t then : chosen) ++pairs[static_cast<size_t>(then)];
  }
}

void Coactivation::learn(const RoutingState& state) {
  calibration_.learn(state.experts);
  for (size_t distance = 1; distance <= n_recent_; ++distance) {
    const size_t layer = (state.layer + distance * (n_layer_ - 1)) % n_layer_;  // state.layer - distance
    count(layer, recent_[(position_ - distance) % lookahead_], distance, state.experts);
  }
  const std::span<float> rate(&rate_[state.layer * n_expert_], n_expert_);
  for (float& r : rate) r -= kDecay * r;
  for (const int32_t expert : state.experts) rate[static_cast<size_t>(expert)] += kDecay;

  Choice& choice = recent_[position_ % lookahead_];
  choice.experts.assign(state.experts.begin(), state.experts.end());
  choice.weights.assign(state.weights.begin(), state.weights.end());
  ++position_;
  n_recent_ = std::min(n_recent_ + 1, lookahead_);
}

}  // namespace odmoe
