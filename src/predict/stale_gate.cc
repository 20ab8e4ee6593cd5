#include "predict/stale_gate.h"

#include <algorithm>
#include <cmath>

namespace odmoe {
namespace {

constexpr float kRange = 6;  // spreads of the marks

}  // namespace

StaleGate::StaleGate(const PredictorShape& shape, Router router, FirstRouter first_router, Wants wants)
    : n_layer_(shape.n_layer()),
      n_expert_(static_cast<size_t>(shape.n_expert)),
      lookahead_(static_cast<size_t>(shape.lookahead)),
      router_(std::move(router)),
      first_router_(std::move(first_router)),
      wants_(wants),
      best_(static_cast<size_t>(shape.n_expert_used) + 1),
      calibration_(shape.lookahead, shape.n_expert, shape.n_expert_used, kRange) {}

Result<int32_t> StaleGate::begin_token(std::span<const float> embedding, std::span<float> scores) {
  if (embedding.empty()) return 0;
  return rank(0, scores,
              [&](size_t target, std::span<float> marks) { return first_router_(embedding, target, marks); });
}

Result<int32_t> StaleGate::predict(const RoutingState& state, std::span<float> scores) {
  return rank(state.layer + 1, scores,
              [&](size_t target, std::span<float> marks) { return router_(state, target, marks); });
}

template <typename Ask>
Result<int32_t> StaleGate::rank(size_t first, std::span<float> scores, Ask&& ask) {
  const size_t n = std::min(lookahead_, n_layer_ - first);
  for (size_t row = 0; row < n; ++row) {
    const std::span<float> marks = scores.subspan(row * n_expert_, n_expert_);
    ODMOE_RETURN_IF_ERROR(ask(first + row, marks));
    // What counts is the lead over the experts that are just not chosen, in units of how far marks spread.
    best_experts(marks, best_);
    const size_t last = std::min(best_.size(), n_expert_) - 1;
    const float threshold = (marks[static_cast<size_t>(best_[last])] +
                             marks[static_cast<size_t>(best_[last > 0 ? last - 1 : 0])]) /
                            2;
    double sum = 0, squares = 0;
    for (const float mark : marks) {
      sum += mark;
      squares += static_cast<double>(mark) * mark;
    }
    const double mean = sum / static_cast<double>(n_expert_);
    const double variance = squares / static_cast<double>(n_expert_) - mean * mean;
    const auto spread = static_cast<float>(std::sqrt(std::max(variance, 1e-12)));
    for (float& mark : marks) mark = (mark - threshold) / spread;
  }
  calibration_.apply(scores, static_cast<int32_t>(n), true);
  return static_cast<int32_t>(n);
}

}  // namespace odmoe
