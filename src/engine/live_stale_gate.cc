#include "engine/live_stale_gate.h"

#include <algorithm>

#include "base/units.h"

namespace odmoe {
namespace {

constexpr int kNodesPerLayer = 8;
constexpr float kNever = -1e30F;  // for an expert that could not be chosen, since scores are finite
constexpr ggml_type kCopyType = GGML_TYPE_Q8_0;

bool is_copied(const ggml_tensor& router) {
  return router.type == GGML_TYPE_F32 && router.ne[0] % ggml_blck_size(kCopyType) == 0;
}

}  // namespace

Result<std::unique_ptr<LiveStaleGate>> LiveStaleGate::create(Backend& backend, const Decoder& decoder,
                                                             const Activations& activations,
                                                             ggml_gallocr_t allocator, int32_t lookahead) {
  std::unique_ptr<LiveStaleGate> gate(new LiveStaleGate(backend, decoder, activations, lookahead));
  ODMOE_RETURN_IF_ERROR(gate->make_copies());
  gate->build_graphs(allocator);
  return gate;
}

LiveStaleGate::LiveStaleGate(Backend& backend, const Decoder& decoder, const Activations& activations,
                             int32_t lookahead)
    : backend_(&backend),
      decoder_(&decoder),
      activations_(&activations),
      lookahead_(static_cast<size_t>(lookahead)),
      router_(decoder.shape().router),
      ids_(static_cast<size_t>(decoder.shape().router.n_expert_used)),
      weights_(ids_.size()) {}

// Room for the copies, which are not filled yet.
Status LiveStaleGate::make_copies() {
  const size_t n = decoder_->expert_layers().size();
  context_.reset(
      ggml_init({.mem_size = n * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  uint64_t bytes = 0;
  for (size_t target = 0; target < n; ++target) {
    ggml_tensor* router = decoder_->router(target);
    if (is_copied(*router)) {
      router = ggml_new_tensor_2d(context_.get(), kCopyType, router->ne[0], router->ne[1]);
      bytes += round_up(ggml_nbytes(router), kTensorAlignment);
    }
    routers_.push_back(router);
  }
  if (bytes == 0) return {};
  ODMOE_ASSIGN_OR_RETURN(memory_, AlignedBuffer::allocate(bytes));
  buffer_ = backend_->wrap(memory_.span());
  std::byte* address = memory_.data();
  for (ggml_tensor* copy = ggml_get_first_tensor(context_.get()); copy != nullptr;
       copy = ggml_get_next_tensor(context_.get(), copy)) {
    ggml_backend_tensor_alloc(buffer_.get(), copy, address);
    address += round_up(ggml_nbytes(copy), kTensorAlignment);
  }
  return {};
}

void LiveStaleGate::build_graphs(ggml_gallocr_t allocator) {
  for (size_t first = 0; first < routers_.size(); ++first) {
    Graph& graph = graphs_.emplace_back(kNodesPerLayer * static_cast<int>(n_ahead(first)));
    for (size_t d = 0; d < n_ahead(first); ++d) {
      decoder_->build_stale_gate(graph.context(), graph.graph(), *activations_, first + d,
                                 routers_[first + d], static_cast<int64_t>(d));
    }
    ggml_gallocr_alloc_graph(allocator, graph.graph());
  }
}

void LiveStaleGate::copy_routers() {
  for (size_t target = 0; target < routers_.size(); ++target) {
    const ggml_tensor* router = decoder_->router(target);
    if (routers_[target] == router) continue;
    ggml_quantize_chunk(kCopyType, static_cast<const float*>(router->data), routers_[target]->data, 0,
                        router->ne[1], router->ne[0], nullptr);
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
  if (first == routers_.size()) return 0;
  ODMOE_RETURN_IF_ERROR(backend_->compute(graphs_[first].graph()));
  const auto n_expert = static_cast<size_t>(decoder_->shape().router.n_expert);
  for (size_t d = 0; d < n_ahead(first); ++d) {
    const auto* logits = static_cast<const float*>(activations_->stale_logits->data) + d * n_expert;
    router_.route({logits, n_expert}, decoder_->router_bias(decoder_->expert_layers()[first + d]), ids_,
                  weights_);
    std::ranges::transform(router_.selection(), scores.subspan(d * n_expert, n_expert).begin(),
                           [](float score) { return std::max(score, kNever); });
  }
  return static_cast<int32_t>(n_ahead(first));
}

}  // namespace odmoe
