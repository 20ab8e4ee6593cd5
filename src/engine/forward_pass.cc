#include "engine/forward_pass.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>
#include <utility>

#include "base/units.h"
#include "engine/live_stale_gate.h"
#include "model/blocks/exact_rows.h"

namespace odmoe {
namespace {

// Positions whose logits are computed at once: bounds the logits' memory when every position's are wanted.
constexpr int64_t kHeadColumns = 16;
// A shared expert or the output head.
constexpr int kSmallGraphNodes = 32;

std::vector<int32_t> experts_per_layer(const ModelShape& shape) {
  std::vector<int32_t> n_expert;
  n_expert.reserve(static_cast<size_t>(shape.n_layer));
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    n_expert.push_back(shape.has_experts(layer) ? shape.router.n_expert : 0);
  }
  return n_expert;
}

int64_t padded_kv(int64_t length) {
  return static_cast<int64_t>(round_up(static_cast<uint64_t>(length), KvCache::kRowPadding));
}

}  // namespace

DecodeGraphs::DecodeGraphs(const Decoder& decoder, int32_t lane)
    : lane_(lane), head_(kSmallGraphNodes), kept_head_(kSmallGraphNodes) {
  for (int i = 0; i < decoder.n_segment(); ++i) {
    segments_.emplace_back(decoder.max_segment_nodes(i));
    kept_.emplace_back(decoder.max_segment_nodes(i));
  }
  if (!decoder.architecture().has_shared_expert()) return;
  for (size_t i = 0; i < decoder.expert_layers().size(); ++i) {
    shared_.emplace_back(kSmallGraphNodes);
    kept_shared_.emplace_back(kSmallGraphNodes);
  }
}

ForwardPass::ForwardPass(Backend& backend, const Decoder& decoder, const Options& options)
    : backend_(&backend),
      decoder_(&decoder),
      options_(options),
      graph_(decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1)),
      checked_(2 * (decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1))),
      router_(decoder.shape().router),
      routing_(experts_per_layer(decoder.shape())) {
  const int64_t n_token = std::max<int64_t>(options.chunk, options.lanes);
  const auto n_pair = static_cast<size_t>(n_token * decoder.shape().router.n_expert_used);
  const auto n_expert = static_cast<size_t>(decoder.shape().router.n_expert);
  column_.resize(static_cast<size_t>(n_token));
  chosen_.resize(n_pair);
  chosen_weight_.resize(n_pair);
  pair_index_.resize(n_pair);
  pair_begin_.resize(n_expert + 1);
  pending_.reserve(n_expert);
  leases_.reserve(n_expert);
  hints_.reserve(n_expert);
}

LayerInputs ForwardPass::inputs(Graph& graph, const Activations& a, KvCache& kv, int64_t n_token,
                                int64_t n_kv) const {
  ggml_context* ctx = graph.context();
  return {.context = ctx,
          .graph = graph.graph(),
          .n_token = n_token,
          .n_kv = n_kv,
          .positions = ggml_view_1d(ctx, a.positions, n_token, 0),
          .kv_rows = ggml_view_1d(ctx, a.kv_rows, n_token, 0),
          .mask = ggml_view_2d(ctx, a.mask, n_kv, n_token, ggml_row_size(GGML_TYPE_F16, n_kv), 0),
          .query_scale = a.query_scale == nullptr ? nullptr
                                                  : ggml_view_3d(ctx, a.query_scale, 1, 1, n_token,
                                                                 sizeof(float), sizeof(float), 0),
          .kv = &kv,
          .flash_attention = options_.flash_attention};
}

bool ForwardPass::supports_flash_attention(Backend& backend, const Decoder& decoder, KvCache& kv) {
  // Built by the model itself, so that the question is asked with its real shapes.
  Graph graph(decoder.max_segment_nodes(0));
  ggml_context* ctx = graph.context();
  const int64_t n_kv = KvCache::kRowPadding;
  const LayerInputs inputs{.context = ctx,
                           .graph = graph.graph(),
                           .n_token = 1,
                           .n_kv = n_kv,
                           .positions = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, 1),
                           .kv_rows = ggml_new_tensor_1d(ctx, GGML_TYPE_I64, 1),
                           .mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, n_kv, 1),
                           .query_scale = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 1, 1, 1),
                           .kv = &kv,
                           .flash_attention = true};
  ggml_tensor* x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, decoder.shape().n_embd, 1);
  graph.expand(decoder.architecture().attention(inputs, 0, x));
  for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph.graph(), i);
    if (node->op == GGML_OP_FLASH_ATTN_EXT) return backend.supports(node);
  }
  return false;
}

Result<std::unique_ptr<ForwardPass>> ForwardPass::create(Backend& backend, const Decoder& decoder,
                                                         const Checkpoint& file, KvCache& kv,
                                                         const Options& options) {
  std::unique_ptr<ForwardPass> pass(new ForwardPass(backend, decoder, options));
  ODMOE_RETURN_IF_ERROR(pass->allocate(file, kv));
  return pass;
}

Status ForwardPass::allocate(const Checkpoint& file, KvCache& kv) {
  const ModelShape& shape = decoder_->shape();
  const int64_t chunk = options_.chunk;
  const int64_t n = std::max<int64_t>(chunk, options_.lanes);
  const int64_t n_used = shape.router.n_expert_used;
  const int64_t n_kv = padded_kv(options_.context);

  context_.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * 16, .mem_buffer = nullptr, .no_alloc = true}));
  std::vector<ggml_tensor*> tensors;
  const auto make = [&](ggml_type type, int64_t ne0, int64_t ne1) {
    tensors.push_back(ggml_new_tensor_2d(context_.get(), type, ne0, ne1));
    return tensors.back();
  };
  activations_.tokens = make(GGML_TYPE_I32, n, 1);
  activations_.positions = make(GGML_TYPE_I32, n, 1);
  activations_.kv_rows = make(GGML_TYPE_I64, n, 1);
  activations_.mask = make(GGML_TYPE_F16, n_kv, n);
  if (decoder_->architecture().scales_queries()) activations_.query_scale = make(GGML_TYPE_F32, n, 1);
  activations_.layer_input = make(GGML_TYPE_F32, shape.n_embd, n);
  activations_.residual = make(GGML_TYPE_F32, shape.n_embd, n);
  activations_.ffn_input = make(GGML_TYPE_F32, shape.n_embd, n);
  activations_.router_logits = make(GGML_TYPE_F32, shape.router.n_expert, n);
  activations_.stale_logits = make(GGML_TYPE_F32, shape.router.n_expert, kMaxLookahead);
  activations_.expert_output = make(GGML_TYPE_F32, shape.n_embd, n_used * n);
  activations_.expert_weight = make(GGML_TYPE_F32, 1, n_used * n);
  if (decoder_->architecture().has_shared_expert()) {
    activations_.shared_output = make(GGML_TYPE_F32, shape.n_embd, n);
  }
  logits_ = make(GGML_TYPE_F32, shape.n_vocab, kHeadColumns);
  uint64_t bytes = 0;
  for (const ggml_tensor* tensor : tensors) bytes += round_up(ggml_nbytes(tensor), kTensorAlignment);
  ODMOE_ASSIGN_OR_RETURN(memory_, AlignedBuffer::allocate(bytes));
  buffer_ = backend_->wrap(memory_.span());
  uint64_t offset = 0;
  for (ggml_tensor* tensor : tensors) {
    ggml_backend_tensor_alloc(buffer_.get(), tensor, memory_.data() + offset);
    offset += round_up(ggml_nbytes(tensor), kTensorAlignment);
  }
  make_lanes();

  ODMOE_ASSIGN_OR_RETURN(compute_, ExpertCompute::create(*backend_, shape, n));
  pairs_.reserve(static_cast<size_t>(std::max(compute_->max_pairs(), n * n_used)));
  experts_.resize(static_cast<size_t>(shape.n_layer));
  for (const int layer : decoder_->expert_layers()) {
    ODMOE_ASSIGN_OR_RETURN(experts_[static_cast<size_t>(layer)], describe_experts(file, shape, layer));
    if (!compute_->supported(experts_[static_cast<size_t>(layer)])) {
      return fail(ErrorKind::kUnsupported,
                  "{}: this ggml cannot compute the experts of layer {} ({}, {}, {})", file.path().string(),
                  layer, ggml_type_name(experts_[static_cast<size_t>(layer)].gate.type),
                  ggml_type_name(experts_[static_cast<size_t>(layer)].up.type),
                  ggml_type_name(experts_[static_cast<size_t>(layer)].down.type));
    }
  }

  // The compute buffer is made for the largest graph, so that no later one makes it grow.
  allocator_.reset(ggml_gallocr_new(backend_->buffer_type()));
  const auto reserve_graph = [&](const Graph& graph, const char* what) -> Status {
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) {
      const ggml_tensor* node = ggml_graph_node(graph.graph(), i);
      if (!backend_->supports(node)) {
        return fail(ErrorKind::kUnsupported, "{}: this ggml cannot compute {} on {} in the {}",
                    file.path().string(), ggml_op_desc(node),
                    ggml_type_name(node->src[0] != nullptr ? node->src[0]->type : node->type), what);
      }
    }
    if (!ggml_gallocr_reserve(allocator_.get(), graph.graph())) {
      return fail(ErrorKind::kIo, "no memory for the compute buffer; use a smaller --chunk or --context");
    }
    return {};
  };
  const auto reserve_checked = [&](const char* what, FiniteChecks::What checks) {
    checked_.reset();
    checks_.add(graph_.graph(), checked_, checks);
    return reserve_graph(checked_, what);
  };
  KeptOperands kept(decoder_->max_segment_nodes(0) + decoder_->max_segment_nodes(1));
  // `build` makes a graph of as many tokens; of one, in a lane, operands are kept.
  const auto reserve = [&](const char* what, int64_t most, const auto& build) -> Status {
    graph_.reset();
    build(activations_, most);
    ODMOE_RETURN_IF_ERROR(reserve_checked(what, FiniteChecks::What::kHiding));
    graph_.reset();
    build(lanes_[0], 1);
    kept.keep(graph_.graph());
    return reserve_graph(graph_, what);
  };
  for (int segment = 0; segment < decoder_->n_segment(); ++segment) {
    ODMOE_RETURN_IF_ERROR(reserve("layers", chunk, [&](const Activations& a, int64_t n_token) {
      decoder_->build_segment(inputs(graph_, a, kv, n_token, n_kv), a, segment);
    }));
  }
  graph_.reset();
  decoder_->build_segment(inputs(graph_, activations_, kv, chunk, n_kv), activations_, 0);
  ODMOE_RETURN_IF_ERROR(reserve_checked("layers", FiniteChecks::What::kAll));
  if (activations_.shared_output != nullptr) {
    for (const int layer : decoder_->expert_layers()) {
      ODMOE_RETURN_IF_ERROR(reserve("shared expert", chunk, [&](const Activations& a, int64_t n_token) {
        decoder_->build_shared_expert(graph_.context(), graph_.graph(), a, layer, n_token);
      }));
    }
  }
  ODMOE_RETURN_IF_ERROR(
      reserve("output head", std::min(chunk, kHeadColumns), [&](const Activations& a, int64_t n_token) {
        decoder_->build_head(graph_.context(), graph_.graph(), a, 0, n_token, logits_);
      }));
  graph_.reset();
  for (int32_t d = 0; d < std::min(kMaxLookahead, decoder_->n_segment() - 1); ++d) {
    const auto target = static_cast<size_t>(d);
    decoder_->build_stale_gate(graph_.context(), graph_.graph(), activations_, target,
                               decoder_->router(target), d);
  }
  ODMOE_RETURN_IF_ERROR(reserve_graph(graph_, "stale gate"));

  // ggml's CPU backend converts the inputs of a product to the weights' own dot type in a work buffer of its
  // own; no row of ours is wider than this, and no dot type wider than F32.
  const uint64_t widest = static_cast<uint64_t>(std::max<int64_t>(
      {shape.n_embd, shape.n_ff, n_used * shape.n_ff_exp, 2 * static_cast<int64_t>(shape.n_head) * 128}));
  const uint64_t work_bytes = static_cast<uint64_t>(n) * widest * sizeof(float) + 4 * kMiB;
  buffer_bytes_ =
      bytes + ExpertCompute::bytes(shape, n) + ggml_gallocr_get_buffer_size(allocator_.get(), 0) + work_bytes;
  return {};
}

// Tensors of one column each, over the memory of activations_.
void ForwardPass::make_lanes() {
  constexpr size_t kTensors = 13;
  const auto n_lane = static_cast<size_t>(options_.lanes);
  lane_context_.reset(ggml_init(
      {.mem_size = ggml_tensor_overhead() * kTensors * n_lane, .mem_buffer = nullptr, .no_alloc = true}));
  const auto place = [&](const ggml_tensor* whole, int64_t ne0, int64_t ne1, size_t offset) {
    ggml_tensor* tensor = ggml_new_tensor_2d(lane_context_.get(), whole->type, ne0, ne1);
    ggml_backend_tensor_alloc(whole->buffer, tensor, static_cast<std::byte*>(whole->data) + offset);
    return tensor;
  };
  const auto value = [&](const ggml_tensor* vector, size_t lane) -> ggml_tensor* {
    if (vector == nullptr) return nullptr;
    return place(vector, 1, 1, lane * vector->nb[0]);
  };
  const auto columns = [&](const ggml_tensor* matrix, size_t lane, int64_t n = 1) -> ggml_tensor* {
    if (matrix == nullptr) return nullptr;
    return place(matrix, matrix->ne[0], n, lane * static_cast<size_t>(n) * matrix->nb[1]);
  };
  const int64_t n_used = decoder_->shape().router.n_expert_used;
  lanes_.resize(n_lane);
  for (size_t i = 0; i < n_lane; ++i) {
    lanes_[i] = {.tokens = value(activations_.tokens, i),
                 .positions = value(activations_.positions, i),
                 .kv_rows = value(activations_.kv_rows, i),
                 .mask = columns(activations_.mask, i),
                 .query_scale = value(activations_.query_scale, i),
                 .layer_input = columns(activations_.layer_input, i),
                 .residual = columns(activations_.residual, i),
                 .ffn_input = columns(activations_.ffn_input, i),
                 .router_logits = columns(activations_.router_logits, i),
                 .stale_logits = activations_.stale_logits,
                 .expert_output = columns(activations_.expert_output, i, n_used),
                 .expert_weight = columns(activations_.expert_weight, i, n_used),
                 .shared_output = columns(activations_.shared_output, i)};
  }
}

Status ForwardPass::attach(ExpertStore& store) {
  store_ = &store;
  arena_ = backend_->wrap(store.arena());
  if (foresight_ != nullptr) foresight_->attach(store);
  if (stale_gate_ != nullptr) stale_gate_->copy_routers();
  for (const int layer : decoder_->expert_layers()) {
    const SlotView view = store.slot_view(layer);
    std::byte* first = store.arena().data() + view.first_slot_offset;
    LayerExperts& experts = experts_[static_cast<size_t>(layer)];
    experts.slot_bytes = view.slot_bytes;
    experts.gate.slot0 = first + view.gate_offset;
    experts.up.slot0 = first + view.up_offset;
    experts.down.slot0 = first + view.down_offset;
  }
  ODMOE_RETURN_IF_ERROR(check_router_biases());
  return find_exact_rows();
}

Status ForwardPass::find_exact_rows() {
  struct Tried {
    ggml_type type;
    int64_t n_in, n_out;
    int32_t rows;
  };
  std::vector<Tried> tried;  // most layers have what another one has
  const auto rows_of = [&](const ExpertMatrix& m) -> Result<int32_t> {
    const auto same = std::ranges::find_if(
        tried, [&](const Tried& t) { return t.type == m.type && t.n_in == m.n_in && t.n_out == m.n_out; });
    if (same != tried.end()) return same->rows;
    ODMOE_ASSIGN_OR_RETURN(const int32_t rows,
                           exact_rows(*backend_, m.type, m.n_in, m.n_out, options_.lanes));
    tried.push_back({.type = m.type, .n_in = m.n_in, .n_out = m.n_out, .rows = rows});
    return rows;
  };
  for (const int layer : decoder_->expert_layers()) {
    LayerExperts& experts = experts_[static_cast<size_t>(layer)];
    experts.exact_rows = options_.lanes;
    for (const ExpertMatrix* matrix : {&experts.gate, &experts.up, &experts.down}) {
      ODMOE_ASSIGN_OR_RETURN(const int32_t rows, rows_of(*matrix));
      experts.exact_rows = std::min(experts.exact_rows, rows);
    }
  }
  return {};
}

void ForwardPass::use_predictor(std::unique_ptr<Predictor> predictor, PredictorShape shape, int32_t lookahead,
                                Foresight::Ask ask) {
  if (predictor->wants().embedding) embedding_.resize(static_cast<size_t>(shape.n_embd));
  buffer_bytes_ += predictor->bytes();
  foresight_ = std::make_unique<Foresight>(std::move(predictor), std::move(shape), lookahead, ask);
}

Result<std::unique_ptr<Predictor>> ForwardPass::make_stale_gate(int32_t lookahead) {
  ODMOE_ASSIGN_OR_RETURN(
      auto gate, LiveStaleGate::create(*backend_, *decoder_, activations_, allocator_.get(), lookahead));
  stale_gate_ = gate.get();
  return gate;
}

void ForwardPass::observe(RoutingObserver* observer) {
  observer_ = observer;
  const auto n_state = static_cast<size_t>(decoder_->shape().n_embd * options_.chunk);
  observed_embedding_.resize(observer != nullptr ? n_state : 0);
  observed_embedding_.shrink_to_fit();
}

Status ForwardPass::show(const Activations& a, size_t segment, int64_t n_token, int64_t first) {
  const ModelShape& shape = decoder_->shape();
  const auto n_state = static_cast<size_t>(shape.n_embd * n_token);
  const auto n_pair = static_cast<size_t>(shape.router.n_expert_used * n_token);
  const auto values = [](const ggml_tensor* tensor, size_t n) {
    return std::span(static_cast<const float*>(tensor->data), n);
  };
  if (segment == 0) {
    const std::span tokens(static_cast<const int32_t*>(a.tokens->data), static_cast<size_t>(n_token));
    const auto n_embd = static_cast<size_t>(shape.n_embd);
    const std::span embedding = std::span(observed_embedding_).first(n_state);
    for (size_t i = 0; i < tokens.size(); ++i) {
      decoder_->embedding(tokens[i], embedding.subspan(i * n_embd, n_embd));
    }
    ODMOE_RETURN_IF_ERROR(observer_->on_tokens(
        {.tokens = tokens, .first_position = static_cast<int32_t>(first), .embedding = embedding}));
  }
  return observer_->on_layer({.layer = decoder_->expert_layers()[segment],
                              .n_token = static_cast<int32_t>(n_token),
                              .attention_input = values(a.layer_input, n_state),
                              .router_input = values(a.ffn_input, n_state),
                              .experts = std::span(chosen_).first(n_pair),
                              .weights = values(a.expert_weight, n_pair)});
}

Status ForwardPass::check_interrupt() const {
  if (options_.interrupted != nullptr && options_.interrupted->load(std::memory_order_relaxed)) {
    return fail(ErrorKind::kInterrupted, "interrupted");
  }
  return {};
}

void ForwardPass::set_inputs(const Activations& a, std::span<const int32_t> tokens, int64_t first,
                             int64_t n_kv) const {
  const auto n = static_cast<int64_t>(tokens.size());
  auto* ids = static_cast<int32_t*>(a.tokens->data);
  auto* positions = static_cast<int32_t*>(a.positions->data);
  auto* rows = static_cast<int64_t*>(a.kv_rows->data);
  auto* mask = static_cast<ggml_fp16_t*>(a.mask->data);
  auto* scale = a.query_scale != nullptr ? static_cast<float*>(a.query_scale->data) : nullptr;
  const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < n; ++i) {
    ids[i] = tokens[static_cast<size_t>(i)];
    positions[i] = static_cast<int32_t>(first + i);
    rows[i] = first + i;
    if (scale != nullptr) scale[i] = decoder_->architecture().query_scale(first + i);
    const int64_t visible = first + i + 1;
    std::fill_n(mask + i * n_kv, visible, ggml_fp16_t{0});
    std::fill_n(mask + i * n_kv + visible, n_kv - visible, hidden);
  }
}

void ForwardPass::build_decode_graphs(KvCache& kv, DecodeGraphs& graphs, int64_t n_kv) {
  const Activations& a = lanes_[static_cast<size_t>(graphs.lane_)];
  // Addresses are in the compute buffer, which never moves: a graph can run again and again.
  const auto place = [&](Graph& graph) { ggml_gallocr_alloc_graph(allocator_.get(), graph.graph()); };
  for (int segment = 0; segment < decoder_->n_segment(); ++segment) {
    Graph& graph = graphs.segments_[static_cast<size_t>(segment)];
    graph.reset();
    decoder_->build_segment(inputs(graph, a, kv, 1, n_kv), a, segment);
    graphs.kept_[static_cast<size_t>(segment)].keep(graph.graph());
    place(graph);
  }
  if (graphs.n_kv_ == 0) {  // the others do not depend on the length
    for (size_t i = 0; i < graphs.shared_.size(); ++i) {
      Graph& graph = graphs.shared_[i];
      graph.reset();
      decoder_->build_shared_expert(graph.context(), graph.graph(), a, decoder_->expert_layers()[i], 1);
      graphs.kept_shared_[i].keep(graph.graph());
      place(graph);
    }
    graphs.head_.reset();
    decoder_->build_head(graphs.head_.context(), graphs.head_.graph(), a, 0, 1, logits_);
    graphs.kept_head_.keep(graphs.head_.graph());
    place(graphs.head_);
  }
  graphs.n_kv_ = n_kv;
}

Status ForwardPass::run(KvCache& kv, DecodeGraphs& decode_graphs, std::span<const int32_t> tokens,
                        int64_t first, Logits logits, const Sink& sink) {
  const auto n_token = static_cast<int64_t>(tokens.size());
  assert(n_token >= 1 && n_token <= options_.chunk);
  const int64_t n_kv = padded_kv(first + n_token);
  assert(n_kv <= kv.rows());
  const Activations& a = n_token == 1 ? lanes_[static_cast<size_t>(decode_graphs.lane_)] : activations_;
  set_inputs(a, tokens, first, n_kv);
  std::iota(column_.begin(), column_.begin() + n_token, 0);
  if (n_token == 1 && decode_graphs.n_kv_ != n_kv) build_decode_graphs(kv, decode_graphs, n_kv);
  if (foresight_ != nullptr && n_token == 1) ODMOE_RETURN_IF_ERROR(foresee_token(kv, tokens[0], first));
  const Part part{.a = &a, .kv = &kv, .graphs = &decode_graphs, .n_token = n_token, .n_kv = n_kv, .index = 0};
  const Status status = run_layers(part, first);
  leases_.clear();  // none is left but after an error
  ODMOE_RETURN_IF_ERROR(status);
  ODMOE_RETURN_IF_ERROR(run_head(part, logits, sink));
  if (foresight_ != nullptr && n_token == 1) foresight_->end_token(options_.clock->now_us());
  return {};
}

Status ForwardPass::run_layers(const Part& part, int64_t first) {
  const Activations& a = *part.a;
  const bool decode = part.n_token == 1;
  const std::vector<int>& layers = decoder_->expert_layers();
  for (size_t segment = 0;; ++segment) {
    ODMOE_RETURN_IF_ERROR(check_interrupt());
    ODMOE_RETURN_IF_ERROR(compute_segment(part, segment));
    if (segment == layers.size()) return {};
    const int layer = layers[segment];
    route(a, layer, part.n_token);
    lease_pending(layer);
    if (observer_ != nullptr) ODMOE_RETURN_IF_ERROR(show(a, segment, part.n_token, first));
    if (foresight_ != nullptr && decode) ODMOE_RETURN_IF_ERROR(foresee(a, segment));
    // While the reads are under way.
    if (a.shared_output != nullptr) ODMOE_RETURN_IF_ERROR(compute_shared_expert(part, segment));
    ODMOE_RETURN_IF_ERROR(decode ? run_experts_of_one(a, layer)
                                 : run_experts(segment, part.n_token, /*in_lanes=*/false));
  }
}

Status ForwardPass::step(std::span<const Step> steps, const Sink& sink) {
  assert(!steps.empty() && std::cmp_less_equal(steps.size(), options_.lanes));
  if (steps.size() == 1) {
    const Step& only = steps.front();
    return run(*only.kv, *only.graphs, {&only.token, 1}, only.position, Logits::kLast, sink);
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    const int64_t n_kv = padded_kv(step.position + 1);
    assert(n_kv <= step.kv->rows());
    set_inputs(lanes_[static_cast<size_t>(step.graphs->lane_)], {&step.token, 1}, step.position, n_kv);
    if (step.graphs->n_kv_ != n_kv) build_decode_graphs(*step.kv, *step.graphs, n_kv);
    column_[i] = step.graphs->lane_;
  }
  const Status status = step_layers(steps);
  leases_.clear();
  ODMOE_RETURN_IF_ERROR(status);
  const auto n_vocab = static_cast<size_t>(decoder_->shape().n_vocab);
  for (size_t i = 0; i < steps.size(); ++i) {
    ODMOE_RETURN_IF_ERROR(compute_head(part_of(steps, i), 0, 1));
    sink(static_cast<int64_t>(i), {static_cast<const float*>(logits_->data), n_vocab});
  }
  return {};
}

ForwardPass::Part ForwardPass::part_of(std::span<const Step> steps, size_t i) {
  const Step& step = steps[i];
  return {.a = &lanes_[static_cast<size_t>(step.graphs->lane_)],
          .kv = step.kv,
          .graphs = step.graphs,
          .n_token = 1,
          .n_kv = padded_kv(step.position + 1),
          .index = i};
}

Status ForwardPass::step_layers(std::span<const Step> steps) {
  const auto n_token = static_cast<int64_t>(steps.size());
  const std::vector<int>& layers = decoder_->expert_layers();
  for (size_t segment = 0;; ++segment) {
    ODMOE_RETURN_IF_ERROR(check_interrupt());
    for (size_t i = 0; i < steps.size(); ++i) {
      ODMOE_RETURN_IF_ERROR(compute_segment(part_of(steps, i), segment));
    }
    if (segment == layers.size()) return {};
    const int layer = layers[segment];
    route(activations_, layer, n_token);
    lease_pending(layer);
    if (activations_.shared_output != nullptr) {
      for (size_t i = 0; i < steps.size(); ++i) {
        ODMOE_RETURN_IF_ERROR(compute_shared_expert(part_of(steps, i), segment));
      }
    }
    ODMOE_RETURN_IF_ERROR(run_experts(segment, n_token, /*in_lanes=*/true));
  }
}

// A token begins.
Status ForwardPass::foresee_token(const KvCache& kv, int32_t token, int64_t position) {
  if (&kv != foreseen_kv_ || position != foreseen_next_) foresight_->begin_sequence();
  foreseen_kv_ = &kv;
  foreseen_next_ = position + 1;
  if (!embedding_.empty()) decoder_->embedding(token, embedding_);
  return foresight_->begin_token(embedding_, options_.clock->now_us());
}

// A layer's router has spoken, of one token.
Status ForwardPass::foresee(const Activations& a, size_t segment) {
  const auto n_embd = static_cast<size_t>(decoder_->shape().n_embd);
  const auto n_used = static_cast<size_t>(decoder_->shape().router.n_expert_used);
  // Who looks at the evaluation itself (the stale gate) has graphs that are built on the first column.
  if (!foresight_->predictor().stands_alone() && a.residual->data != activations_.residual->data) {
    std::copy_n(static_cast<const float*>(a.residual->data), n_embd,
                static_cast<float*>(activations_.residual->data));
  }
  const auto values = [](const ggml_tensor* tensor, size_t n) {
    return std::span(static_cast<const float*>(tensor->data), n);
  };
  return foresight_->routed({.layer = segment,
                             .router_input = values(a.ffn_input, n_embd),
                             .attention_input = values(a.layer_input, n_embd),
                             .experts = std::span(chosen_).first(n_used),
                             .weights = values(a.expert_weight, n_used)});
}

Status ForwardPass::run_head(const Part& part, Logits logits, const Sink& sink) {
  if (logits == Logits::kNone) return {};
  const auto n_vocab = static_cast<size_t>(decoder_->shape().n_vocab);
  int64_t first = logits == Logits::kLast ? part.n_token - 1 : 0;
  while (first < part.n_token) {
    ODMOE_RETURN_IF_ERROR(check_interrupt());
    const int64_t n = std::min(kHeadColumns, part.n_token - first);
    ODMOE_RETURN_IF_ERROR(compute_head(part, first, n));
    for (int64_t i = 0; i < n; ++i) {
      sink(first + i, {static_cast<const float*>(logits_->data) + static_cast<size_t>(i) * n_vocab, n_vocab});
    }
    first += n;
  }
  return {};
}

}  // namespace odmoe
