#include "engine/live_stale_gate.h"

#include <algorithm>

#include "backend/tensor_memory.h"
#include "base/units.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr int kNodesPerLayer = 8, kNodesOfStreams = 32;
constexpr float kNever = -1e30F;  // for an expert that could not be chosen, since scores are finite
constexpr ggml_type kCopyType = GGML_TYPE_Q8_0;

bool is_copied(const ggml_tensor& router) {
  return router.type == GGML_TYPE_F32 && router.ne[0] % ggml_blck_size(kCopyType) == 0;
}

}  // namespace

Result<std::unique_ptr<LiveStaleGate>> LiveStaleGate::create(Backend& backend, const Decoder& decoder,
                                                             int32_t lookahead) {
  std::unique_ptr<LiveStaleGate> gate(new LiveStaleGate(backend, decoder, lookahead));
  ODMOE_RETURN_IF_ERROR(gate->make_room());
  ODMOE_RETURN_IF_ERROR(gate->build_graphs());
  return gate;
}

LiveStaleGate::LiveStaleGate(Backend& backend, const Decoder& decoder, int32_t lookahead)
    : backend_(&backend),
      decoder_(&decoder),
      lookahead_(static_cast<size_t>(lookahead)),
      router_(decoder.shape().router),
      ids_(static_cast<size_t>(decoder.shape().router.n_expert_used)),
      weights_(ids_.size()) {}

uint64_t LiveStaleGate::bytes() const {
  return memory_.size() + ggml_gallocr_get_buffer_size(allocator_.get(), 0);
}

// For what is asked and said, and for the copies, which are not filled yet.
Status LiveStaleGate::make_room() {
  const ModelShape& shape = decoder_->shape();
  const size_t n = decoder_->expert_layers().size();
  context_.reset(ggml_init(
      {.mem_size = (n + 4 + lookahead_) * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  const auto make_column = [&](int64_t n_part) {
    return ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, shape.n_embd * n_part, 1);
  };
  asked_.residual = make_column(1);
  if (const ResidualStreams* streams = decoder_->architecture().streams()) {
    asked_.streams = make_column(streams->n_stream());
    if (streams->n_bank() > 0) asked_.banked = make_column(streams->n_bank());
    size_t n_bank = 0;
    for (int layer = 0; layer < shape.n_layer; ++layer) {
      if (streams->bank_of(layer) >= 0) ++n_bank;
      if (shape.has_experts(layer)) n_bank_.push_back(n_bank);
    }
  }
  for (size_t d = 0; d < lookahead_; ++d) {
    logits_.push_back(ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, shape.router.n_expert, 1));
  }
  for (size_t target = 0; target < n; ++target) {
    ggml_tensor* router = decoder_->router(target);
    if (is_copied(*router)) {
      router = ggml_new_tensor_2d(context_.get(), kCopyType, router->ne[0], router->ne[1]);
    }
    routers_.push_back(router);
  }
  const auto each = [&](const auto& visit) {
    for (ggml_tensor* tensor = ggml_get_first_tensor(context_.get()); tensor != nullptr;
         tensor = ggml_get_next_tensor(context_.get(), tensor)) {
      visit(tensor);
    }
  };
  uint64_t bytes = 0;
  each([&](const ggml_tensor* tensor) { bytes += round_up(ggml_nbytes(tensor), backend_->alignment()); });
  ODMOE_ASSIGN_OR_RETURN(memory_, DeviceMemory::allocate(*backend_, bytes));
  uint64_t offset = 0;
  bool placed = true;
  each([&](ggml_tensor* tensor) {
    placed = memory_.place(tensor, offset) && placed;
    offset += round_up(ggml_nbytes(tensor), backend_->alignment());
  });
  if (!placed) return fail(ErrorKind::kIo, "{} cannot hold the stale gate", backend_->description());
  said_.resize(lookahead_ * static_cast<size_t>(shape.router.n_expert));
  return {};
}

Status LiveStaleGate::build_graphs() {
  const auto build = [&](size_t first, Graph& graph) {
    Decoder::StateBetween asked = asked_;
    if (first == 0) asked.streams = nullptr;  // by begin_token() alone
    for (size_t d = 0; d < n_ahead(first); ++d) {
      decoder_->build_stale_gate(graph.context(), graph.graph(), asked, first + d, routers_[first + d],
                                 logits_[d]);
    }
  };
  const int n_node = kNodesPerLayer + (has_streams() ? kNodesOfStreams : 0);
  for (size_t first = 0; first < routers_.size(); ++first) {
    build(first, graphs_.emplace_back(n_node * static_cast<int>(n_ahead(first))));
  }
  // The first asks as many routers as any.
  allocator_.reset(ggml_gallocr_new(backend_->buffer_type()));
  const ggml_tensor* lacking = nullptr;
  each_operation([&](const ggml_tensor* node) {
    if (lacking == nullptr && !backend_->supports(node)) lacking = node;
  });
  if (lacking != nullptr) {
    return fail(ErrorKind::kUnsupported, "{} cannot compute {} in the stale gate; use --predictor none",
                backend_->description(), ggml_op_desc(lacking));
  }
  if (!ggml_gallocr_reserve(allocator_.get(), graphs_.front().graph())) {
    return fail(ErrorKind::kIo, "no memory for the stale gate");
  }
  for (Graph& graph : graphs_) ggml_gallocr_alloc_graph(allocator_.get(), graph.graph());
  return {};
}

void LiveStaleGate::each_operation(const std::function<void(const ggml_tensor*)>& visit) const {
  for (const Graph& graph : graphs_) {
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) visit(ggml_graph_node(graph.graph(), i));
  }
}

void LiveStaleGate::copy_routers() {
  for (size_t target = 0; target < routers_.size(); ++target) {
    const ggml_tensor* router = decoder_->router(target);
    if (routers_[target] == router) continue;
    std::vector<float> weights(static_cast<size_t>(ggml_nelements(router)));
    std::vector<std::byte> copy(ggml_nbytes(routers_[target]));
    read_tensor(router, 0, std::as_writable_bytes(std::span(weights)));
    ggml_quantize_chunk(kCopyType, weights.data(), copy.data(), 0, router->ne[1], router->ne[0], nullptr);
    write_tensor(routers_[target], 0, copy);
  }
}

Result<int32_t> LiveStaleGate::begin_token(std::span<const float> embedding, std::span<float> scores) {
  backend_->send(asked_.residual, 0, std::as_bytes(embedding));
  bank({}, 0, embedding);
  return ask(0, scores);
}

Result<int32_t> LiveStaleGate::predict(const RoutingState& state, std::span<float> scores) {
  if (has_streams()) {
    backend_->send(asked_.streams, 0, std::as_bytes(state.streams));
    bank(state.banked, n_bank_[state.layer], state.streams);
  } else {
    backend_->send(asked_.residual, 0, std::as_bytes(state.residual));
  }
  return ask(state.layer + 1, scores);
}

void LiveStaleGate::bank(std::span<const float> banked, size_t known, std::span<const float> now) {
  if (asked_.banked == nullptr) return;
  const auto n_embd = static_cast<size_t>(decoder_->shape().n_embd);
  const auto n_bank = static_cast<size_t>(asked_.banked->ne[0]) / n_embd;
  backend_->send(asked_.banked, 0, std::as_bytes(banked.first(known * n_embd)));
  for (size_t i = known; i < n_bank; ++i) {  // the first of the streams
    backend_->send(asked_.banked, i * n_embd * sizeof(float), std::as_bytes(now.first(n_embd)));
  }
}

Result<int32_t> LiveStaleGate::ask(size_t first, std::span<float> scores) {
  if (first == routers_.size()) return 0;
  ODMOE_RETURN_IF_ERROR(backend_->launch(graphs_[first].graph()));
  const auto n_expert = static_cast<size_t>(decoder_->shape().router.n_expert);
  for (size_t d = 0; d < n_ahead(first); ++d) {
    backend_->queue_fetch(logits_[d], 0,
                          std::as_writable_bytes(std::span(said_).subspan(d * n_expert, n_expert)));
  }
  ODMOE_RETURN_IF_ERROR(backend_->settle());
  for (size_t d = 0; d < n_ahead(first); ++d) {
    router_.route(std::span(said_).subspan(d * n_expert, n_expert),
                  decoder_->selection_bias(decoder_->expert_layers()[first + d]), ids_, weights_);
    std::ranges::transform(router_.selection(), scores.subspan(d * n_expert, n_expert).begin(),
                           [](float score) { return std::max(score, kNever); });
  }
  return static_cast<int32_t>(n_ahead(first));
}

}  // namespace odmoe
