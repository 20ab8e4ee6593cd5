#include "engine/routing_recorder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ggml.h"

namespace odmoe {
namespace {

constexpr float kLargestHalf = 65504;

}  // namespace

RoutingRecorder::RoutingRecorder(const RoutedModel& model, const RecordedStates& states)
    : n_layer_(model.layers.size()),
      n_embd_(static_cast<size_t>(model.n_embd)),
      n_used_(static_cast<size_t>(model.n_expert_used)),
      states_(states),
      clamped_(n_embd_) {}

Status RoutingRecorder::store(std::span<const float> state, uint16_t* halves) {
  // Residual streams of large models have single values far beyond the others.
  for (size_t i = 0; i < n_embd_; ++i) {
    if (std::isnan(state[i])) {
      return fail(ErrorKind::kBadFile,
                  "the model computes values that are not numbers; its weights are damaged");
    }
    clamped_[i] = std::clamp(state[i], -kLargestHalf, kLargestHalf);
    if (clamped_[i] != state[i]) ++n_clamped_;
  }
  ggml_fp32_to_fp16_row(clamped_.data(), halves, static_cast<int64_t>(n_embd_));
  return {};
}

Status RoutingRecorder::on_tokens(const ObservedTokens& tokens) {
  first_ = static_cast<size_t>(shard_.n_token);
  layer_ = 0;
  shard_.n_token += static_cast<int64_t>(tokens.tokens.size());
  const auto n = static_cast<size_t>(shard_.n_token);
  shard_.token.insert(shard_.token.end(), tokens.tokens.begin(), tokens.tokens.end());
  shard_.document.resize(n, document_);
  for (size_t t = first_; t < n; ++t) {
    shard_.position.push_back(tokens.first_position + static_cast<int32_t>(t - first_));
  }
  shard_.experts.resize(n * n_layer_ * n_used_);
  shard_.weights.resize(n * n_layer_ * n_used_);
  if (states_.router_input) shard_.router_input.resize(n * n_layer_ * n_embd_);
  if (states_.attention_input) shard_.attention_input.resize(n * n_layer_ * n_embd_);
  if (!states_.embedding) return {};
  shard_.embedding.resize(n * n_embd_);
  for (size_t t = first_; t < n; ++t) {
    ODMOE_RETURN_IF_ERROR(
        store(tokens.embedding.subspan((t - first_) * n_embd_, n_embd_), &shard_.embedding[t * n_embd_]));
  }
  return {};
}

Status RoutingRecorder::on_layer(const ObservedLayer& layer) {
  for (size_t i = 0; std::cmp_less(i, layer.n_token); ++i) {
    const size_t row = (first_ + i) * n_layer_ + layer_;
    for (size_t k = 0; k < n_used_; ++k) {
      shard_.experts[row * n_used_ + k] = static_cast<uint16_t>(layer.experts[i * n_used_ + k]);
    }
    ggml_fp32_to_fp16_row(layer.weights.data() + i * n_used_, &shard_.weights[row * n_used_],
                          static_cast<int64_t>(n_used_));
    if (states_.router_input) {
      ODMOE_RETURN_IF_ERROR(
          store(layer.router_input.subspan(i * n_embd_, n_embd_), &shard_.router_input[row * n_embd_]));
    }
    if (states_.attention_input) {
      ODMOE_RETURN_IF_ERROR(
          store(layer.attention_input.subspan(i * n_embd_, n_embd_), &shard_.attention_input[row * n_embd_]));
    }
  }
  ++layer_;
  return {};
}

RoutingShard RoutingRecorder::take() { return std::exchange(shard_, {}); }

}  // namespace odmoe
