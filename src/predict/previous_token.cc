#include "predict/previous_token.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace odmoe {
namespace {

constexpr int64_t kNever = INT64_MIN / 2;
// A choice counts half as much in an expert's rate after about 90 tokens: text has topics.
constexpr float kFade = 1.0F / 128;
// Among experts of one cell, the more frequent first, by less than cells differ.
constexpr float kTieBreak = 1e-3F;

}  // namespace

PreviousToken::PreviousToken(const PredictorShape& shape)
    : n_layer_(shape.n_layer()),
      n_expert_(static_cast<size_t>(shape.n_expert)),
      lookahead_(static_cast<size_t>(shape.lookahead)),
      chance_(static_cast<float>(shape.n_expert_used) / static_cast<float>(shape.n_expert)),
      token_(n_layer_),
      last_(n_layer_ * n_expert_, kNever),
      rate_(n_layer_ * n_expert_, chance_),
      odds_(kAges * kRates, chance_, 2),
      log_odds_(kAges * kRates),
      is_chosen_(n_expert_) {
  for (size_t i = 0; i < log_odds_.size(); ++i) log_odds_[i] = odds_.log_odds(i);
}

uint64_t PreviousToken::bytes() const {
  return last_.size() * sizeof(int64_t) + rate_.size() * sizeof(float) + is_chosen_.size() +
         odds_.size() * (2 * sizeof(double) + sizeof(float));
}

void PreviousToken::begin_sequence() { std::ranges::fill(last_, kNever); }

size_t PreviousToken::cell(size_t layer, size_t expert) const {
  const size_t i = layer * n_expert_ + expert;
  const int64_t age = token_[layer] - last_[i];  // 0: the token before
  size_t bucket = kAges - 1;
  if (age < 4) {
    bucket = static_cast<size_t>(age);
  } else if (age < 256) {
    bucket = 2 + static_cast<size_t>(std::bit_width(static_cast<uint64_t>(age)) - 1);  // 4-7: 4, 128-255: 9
  }
  const int power = std::ilogb(std::max(rate_[i] / chance_, 1e-6F)) + 4;
  return bucket * kRates + static_cast<size_t>(std::clamp(power, 0, static_cast<int>(kRates) - 1));
}

void PreviousToken::rank(size_t layer, std::span<float> row) const {
  for (size_t expert = 0; expert < n_expert_; ++expert) {
    row[expert] = log_odds_[cell(layer, expert)] + kTieBreak * rate_[layer * n_expert_ + expert];
  }
}

Result<int32_t> PreviousToken::begin_token(std::span<const float> /*embedding*/, std::span<float> scores) {
  const size_t n = std::min(lookahead_, n_layer_);
  for (size_t row = 0; row < n; ++row) rank(row, scores.subspan(row * n_expert_, n_expert_));
  return static_cast<int32_t>(n);
}

Result<int32_t> PreviousToken::predict(const RoutingState& state, std::span<float> scores) {
  for (size_t row = 0; row < lookahead_; ++row) {
    rank((state.layer + 1 + row) % n_layer_, scores.subspan(row * n_expert_, n_expert_));
  }
  return static_cast<int32_t>(lookahead_);
}

void PreviousToken::learn(const RoutingState& state) {
  std::ranges::fill(is_chosen_, uint8_t{0});
  for (const int32_t expert : state.experts) is_chosen_[static_cast<size_t>(expert)] = 1;
  for (size_t expert = 0; expert < n_expert_; ++expert) {
    odds_.observe(cell(state.layer, expert), is_chosen_[expert] != 0);
  }
  for (size_t expert = 0; expert < n_expert_; ++expert) {
    const size_t i = state.layer * n_expert_ + expert;
    rate_[i] += kFade * (static_cast<float>(is_chosen_[expert]) - rate_[i]);
    if (is_chosen_[expert] != 0) last_[i] = token_[state.layer] + 1;
  }
  ++token_[state.layer];
  if (state.layer == 0) {
    for (size_t i = 0; i < log_odds_.size(); ++i) log_odds_[i] = odds_.log_odds(i);
  }
}

}  // namespace odmoe
