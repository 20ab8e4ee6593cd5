#include "engine/live_stale_gate.h"

#include <algorithm>

namespace odmoe {
namespace {

constexpr int kNodes = 32;
constexpr float kNever = -1e30F;  // for an expert that could not be chosen, since scores are finite

}  // namespace

LiveStaleGate::LiveStaleGate(Backend& backend, const Decoder& decoder, const Activations& activations,
                             ggml_gallocr_t allocator, int32_t lookahead)
    : backend_(&backend),
      decoder_(&decoder),
      activations_(&activations),
      lookahead_(static_cast<size_t>(lookahead)),
      router_(decoder.shape().router),
      ids_(static_cast<size_t>(decoder.shape().router.n_expert_used)),
      weights_(ids_.size()) {
  for (size_t target = 0; target < decoder.expert_layers().size(); ++target) {
    Graph& graph = graphs_.emplace_back(kNodes);
    decoder.build_stale_gate(graph.context(), graph.graph(), activations, target);
    ggml_gallocr_alloc_graph(allocator, graph.graph());
  }
}

Result<int32_t> LiveStaleGate::begin_token(std::span<const float> embedding, std::span<float> scores) {
  std::ranges::copy(embedding, static_cast<float*>(activations_->residual->data));
  return ask(0, scores);
}

Result<int32_t> LiveStaleGate::predict(const RoutingState& state, std::span<float> scores) {
  return ask(state.layer + 1, scores);
}

Result<int32_t> LiveStaleGate::ask(size_t first, std::span<float> scores) {
  const auto n_expert = static_cast<size_t>(decoder_->shape().router.n_expert);
  const size_t n = std::min(lookahead_, graphs_.size() - first);
  for (size_t d = 0; d < n; ++d) {
    const size_t target = first + d;
    ODMOE_RETURN_IF_ERROR(backend_->compute(graphs_[target].graph()));
    const std::span<const float> logits(static_cast<const float*>(activations_->stale_logits->data),
                                        n_expert);
    router_.route(logits, decoder_->router_bias(decoder_->expert_layers()[target]), ids_, weights_);
    std::ranges::transform(router_.selection(), scores.subspan(d * n_expert, n_expert).begin(),
                           [](float score) { return std::max(score, kNever); });
  }
  return static_cast<int32_t>(n);
}

}  // namespace odmoe
