#include "predict/recorded_routers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "predict/stale_gate.h"

namespace odmoe {
namespace {

// A norm's weight below this tells nothing of the state it was multiplied into.
constexpr float kLeastNorm = 1e-8F;
constexpr double kLeastMeanSquare = 1e-12;  // of an embedding; one of zeros stays one

// By the root of the mean square, of a LayerNorm about the mean.
void normalise(std::span<float> values, bool about_mean) {
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const float value : values) sum += value;
  const double mean = about_mean ? sum / n : 0;
  double squares = 0;
  for (const float value : values) squares += (value - mean) * (value - mean);
  const double scale = 1 / std::sqrt(std::max(squares / n, kLeastMeanSquare));
  for (float& value : values) value = static_cast<float>((value - mean) * scale);
}

}  // namespace

RecordedRouters::RecordedRouters(const RoutedModel& model, std::vector<RouterWeights> routers)
    : rule_(model.router),
      routers_(std::move(routers)),
      state_(static_cast<size_t>(model.n_embd)),
      group_scores_(static_cast<size_t>(std::max(rule_.n_group, 1))),
      groups_(group_scores_.size()) {}

void RecordedRouters::mark(size_t layer, std::span<const float> router_input, size_t target,
                           std::span<float> marks) {
  const RouterWeights& from = routers_[layer];
  const RouterWeights& to = routers_[target];
  if (layer == target) {
    std::ranges::copy(router_input, state_.begin());
  } else {
    for (size_t i = 0; i < state_.size(); ++i) {
      const bool known = std::abs(from.norm[i]) > kLeastNorm;
      const float normed = router_input[i] - (from.norm_bias.empty() ? 0 : from.norm_bias[i]);
      state_[i] = known ? normed / from.norm[i] * to.norm[i] : 0;
    }
    add_norm_bias(to);
  }
  mark_state(to, marks);
}

void RecordedRouters::mark_embedding(std::span<const float> embedding, size_t target,
                                     std::span<float> marks) {
  const RouterWeights& to = routers_[target];
  std::ranges::copy(embedding, state_.begin());
  const size_t n = state_.size() / static_cast<size_t>(rule_.norm_groups);
  for (size_t first = 0; rule_.norm != "none" && first < state_.size(); first += n) {
    normalise(std::span(state_).subspan(first, n), rule_.norm == "layer");
  }
  for (size_t i = 0; i < state_.size(); ++i) state_[i] *= to.norm[i];
  add_norm_bias(to);
  mark_state(to, marks);
}

void RecordedRouters::add_norm_bias(const RouterWeights& to) {
  for (size_t i = 0; i < to.norm_bias.size(); ++i) state_[i] += to.norm_bias[i];
}

void RecordedRouters::mark_state(const RouterWeights& to, std::span<float> marks) {
  const size_t n = state_.size();
  for (size_t expert = 0; expert < marks.size(); ++expert) {
    const std::span<const float> row(&to.weight[expert * n], n);
    // Eight sums side by side, for the compiler to keep in one register.
    constexpr size_t kSums = 8;
    std::array<float, kSums> sums{};
    size_t i = 0;
    for (; i + kSums <= n; i += kSums) {
      for (size_t j = 0; j < kSums; ++j) sums[j] += row[i + j] * state_[i + j];
    }
    for (; i < n; ++i) sums[0] += row[i] * state_[i];
    float sum = 0;
    for (const float part : sums) sum += part;
    marks[expert] = sum;
  }
  // Without bias and groups the logits have the order of what is made of them.
  const bool grouped = rule_.n_group > 1 && rule_.n_group_used < rule_.n_group;
  if (to.bias.empty() && !grouped) return;
  if (rule_.gating == "sigmoid") {
    for (float& mark : marks) mark = 1 / (1 + std::exp(-mark));
  } else if (rule_.gating == "sqrt-softplus") {
    for (float& mark : marks) mark = std::sqrt(std::log1p(std::exp(mark)));
  } else if (rule_.gating == "softmax") {
    const float top = std::ranges::max(marks);
    double sum = 0;
    for (float& mark : marks) sum += static_cast<double>(mark = std::exp(mark - top));
    for (float& mark : marks) mark /= static_cast<float>(sum);
  }
  for (size_t expert = 0; expert < to.bias.size(); ++expert) marks[expert] += to.bias[expert];
  if (grouped) exclude_groups(marks);
}

// The groups whose two best experts together are worst are out: marked below all others, in the same order.
void RecordedRouters::exclude_groups(std::span<float> marks) {
  const size_t size = marks.size() / group_scores_.size();
  for (size_t g = 0; g < group_scores_.size(); ++g) {
    float best = -std::numeric_limits<float>::infinity(), second = best;
    for (const float mark : marks.subspan(g * size, size)) {
      if (mark > best) {
        second = std::exchange(best, mark);
      } else {
        second = std::max(second, mark);
      }
    }
    group_scores_[g] = size > 1 ? best + second : best;
  }
  best_experts(group_scores_, groups_);
  const auto [low, high] = std::ranges::minmax(marks);
  for (const int32_t group : std::span(groups_).subspan(static_cast<size_t>(rule_.n_group_used))) {
    for (float& mark : marks.subspan(static_cast<size_t>(group) * size, size)) mark -= 2 * (high - low) + 1;
  }
}

std::unique_ptr<Predictor> make_recorded_stale_gate(const PredictorShape& shape, const RoutedModel& model,
                                                    std::vector<RouterWeights> routers) {
  auto recorded = std::make_shared<RecordedRouters>(model, std::move(routers));
  return std::make_unique<StaleGate>(
      shape,
      [recorded](const RoutingState& state, size_t target, std::span<float> marks) -> Status {
        recorded->mark(state.layer, state.router_input, target, marks);
        return {};
      },
      [recorded](std::span<const float> embedding, size_t target, std::span<float> marks) -> Status {
        recorded->mark_embedding(embedding, target, marks);
        return {};
      },
      Predictor::Wants{.router_input = true});
}

}  // namespace odmoe
