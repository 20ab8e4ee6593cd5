#include "engine/dense_pass.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "base/units.h"

namespace odmoe {
namespace {

// A shared expert or the output head.
constexpr int kSmallGraphNodes = 32;

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

DensePass::DensePass(Backend& backend, const Decoder& decoder, const Options& options)
    : backend_(&backend),
      decoder_(&decoder),
      options_(options),
      graph_(decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1)),
      checked_(2 * (decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1))) {}

LayerInputs DensePass::inputs(Graph& graph, const TokenSpan& span) const {
  ggml_context* ctx = graph.context();
  const Activations& a = span.columns->device;
  return {
      .context = ctx,
      .graph = graph.graph(),
      .n_token = span.n_token,
      .n_kv = span.n_kv,
      .positions = ggml_view_1d(ctx, a.positions, span.n_token, 0),
      .kv_rows = ggml_view_1d(ctx, a.kv_rows, span.n_token, 0),
      .mask = ggml_view_2d(ctx, a.mask, span.n_kv, span.n_token, ggml_row_size(GGML_TYPE_F16, span.n_kv), 0),
      .query_scale = a.query_scale == nullptr ? nullptr
                                              : ggml_view_3d(ctx, a.query_scale, 1, 1, span.n_token,
                                                             sizeof(float), sizeof(float), 0),
      .kv = span.kv,
      .flash_attention = options_.flash_attention};
}

bool DensePass::supports_flash_attention(Backend& backend, const Decoder& decoder, KvCache& kv) {
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

Result<std::unique_ptr<DensePass>> DensePass::create(Backend& backend, const Backend& host,
                                                     const Decoder& decoder, const Checkpoint& file,
                                                     KvCache& kv, const Options& options) {
  std::unique_ptr<DensePass> pass(new DensePass(backend, decoder, options));
  ODMOE_RETURN_IF_ERROR(pass->allocate(host, file, kv));
  return pass;
}

Status DensePass::allocate(const Backend& host, const Checkpoint& file, KvCache& kv) {
  const ModelShape& shape = decoder_->shape();
  const int64_t chunk = options_.chunk;
  const int64_t n = std::max<int64_t>(chunk, options_.lanes);
  const int64_t n_kv = padded_kv(options_.context);
  ODMOE_ASSIGN_OR_RETURN(
      memory_, EvaluationMemory::create(
                   *backend_, host, *decoder_,
                   {.tokens = n, .lanes = options_.lanes, .context = n_kv, .logits = kHeadColumns}));

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
  const TokenSpan many{.columns = &memory_->all(), .kv = &kv, .n_token = chunk, .n_kv = n_kv};
  const TokenSpan one{.columns = &memory_->lane(0), .kv = &kv, .n_token = 1, .n_kv = n_kv};
  // `build` makes a graph of a span; of a single token operands are kept.
  const auto reserve = [&](const char* what, const auto& build) -> Status {
    graph_.reset();
    build(many);
    ODMOE_RETURN_IF_ERROR(reserve_checked(what, FiniteChecks::What::kHiding));
    graph_.reset();
    build(one);
    kept.keep(graph_.graph());
    return reserve_graph(graph_, what);
  };
  for (int segment = 0; segment < decoder_->n_segment(); ++segment) {
    ODMOE_RETURN_IF_ERROR(reserve("layers", [&](const TokenSpan& span) {
      decoder_->build_segment(inputs(graph_, span), span.columns->device, segment);
    }));
  }
  graph_.reset();
  decoder_->build_segment(inputs(graph_, many), many.columns->device, 0);
  ODMOE_RETURN_IF_ERROR(reserve_checked("layers", FiniteChecks::What::kAll));
  if (memory_->all().shared_output) {
    for (const int layer : decoder_->expert_layers()) {
      ODMOE_RETURN_IF_ERROR(reserve("shared expert", [&](const TokenSpan& span) {
        decoder_->build_shared_expert(graph_.context(), graph_.graph(), span.columns->device, layer,
                                      span.n_token);
      }));
    }
  }
  ODMOE_RETURN_IF_ERROR(reserve("output head", [&](const TokenSpan& span) {
    decoder_->build_head(graph_.context(), graph_.graph(), span.columns->device, 0,
                         std::min(span.n_token, kHeadColumns), memory_->logits().device());
  }));

  // ggml's CPU backend converts the inputs of a product to the weights' own dot type in a work buffer of its
  // own; no row of ours is wider than this, and no dot type wider than F32.
  const uint64_t widest = static_cast<uint64_t>(
      std::max<int64_t>({shape.n_embd, shape.n_ff, int64_t{shape.router.n_expert_used} * shape.n_ff_exp,
                         2 * static_cast<int64_t>(shape.n_head) * 128}));
  const uint64_t work_bytes = static_cast<uint64_t>(n) * widest * sizeof(float) + 4 * kMiB;
  buffer_bytes_ = memory_->bytes() + ggml_gallocr_get_buffer_size(allocator_.get(), 0) + work_bytes;
  return {};
}

void DensePass::set_inputs(const EvaluationColumns& columns, std::span<const int32_t> tokens, int64_t first,
                           int64_t n_kv) const {
  const auto n = std::ssize(tokens);
  std::ranges::copy(tokens, columns.tokens.values().begin());
  const std::span<int32_t> positions = columns.positions.values();
  const std::span<int64_t> rows = columns.kv_rows.values();
  ggml_fp16_t* mask = columns.mask.values().data();
  const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < n; ++i) {
    positions[static_cast<size_t>(i)] = static_cast<int32_t>(first + i);
    rows[static_cast<size_t>(i)] = first + i;
    if (columns.query_scale) {
      columns.query_scale.values()[static_cast<size_t>(i)] = decoder_->architecture().query_scale(first + i);
    }
    const int64_t visible = first + i + 1;
    std::fill_n(mask + i * n_kv, visible, ggml_fp16_t{0});
    std::fill_n(mask + i * n_kv + visible, n_kv - visible, hidden);
  }
  columns.tokens.send(0, n);
  columns.positions.send(0, n);
  columns.kv_rows.send(0, n);
  columns.mask.send_values(static_cast<size_t>(n * n_kv));
  if (columns.query_scale) columns.query_scale.send(0, n);
}

void DensePass::build_decode_graphs(KvCache& kv, DecodeGraphs& graphs, int64_t n_kv) {
  const TokenSpan span{.columns = &memory_->lane(graphs.lane_), .kv = &kv, .n_token = 1, .n_kv = n_kv};
  const Activations& a = span.columns->device;
  // Addresses are in the compute buffer, which never moves: a graph can run again and again.
  const auto place = [&](Graph& graph) { ggml_gallocr_alloc_graph(allocator_.get(), graph.graph()); };
  for (int segment = 0; segment < decoder_->n_segment(); ++segment) {
    Graph& graph = graphs.segments_[static_cast<size_t>(segment)];
    graph.reset();
    decoder_->build_segment(inputs(graph, span), a, segment);
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
    decoder_->build_head(graphs.head_.context(), graphs.head_.graph(), a, 0, 1, memory_->logits().device());
    graphs.kept_head_.keep(graphs.head_.graph());
    place(graphs.head_);
  }
  graphs.n_kv_ = n_kv;
}

TokenSpan DensePass::begin(KvCache& kv, DecodeGraphs& graphs, std::span<const int32_t> tokens,
                           int64_t first) {
  const auto n_token = std::ssize(tokens);
  const TokenSpan span{.columns = n_token == 1 ? &memory_->lane(graphs.lane_) : &memory_->all(),
                       .kv = &kv,
                       .graphs = &graphs,
                       .n_token = n_token,
                       .n_kv = padded_kv(first + n_token)};
  assert(n_token >= 1 && n_token <= options_.chunk && span.n_kv <= kv.rows());
  set_inputs(*span.columns, tokens, first, span.n_kv);
  if (n_token == 1 && graphs.n_kv_ != span.n_kv) build_decode_graphs(kv, graphs, span.n_kv);
  return span;
}

}  // namespace odmoe
