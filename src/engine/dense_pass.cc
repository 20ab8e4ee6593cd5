#include "engine/dense_pass.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "base/units.h"
#include "model/blocks/attention.h"

namespace odmoe {
namespace {

// A shared expert or the output head.
constexpr int kSmallGraphNodes = 32;

// Bytes that ggml's CPU backend takes beside tensors for a node that does not multiply with a weight: for a
// product with another type than F32 (attention without its own kernel) all of the other operand in it, for
// what goes through rows one for each thread.
uint64_t work_beside_weights(const ggml_tensor& node, int n_thread) {
  switch (node.op) {
    case GGML_OP_MUL_MAT:
      if (node.src[0]->op == GGML_OP_NONE || node.src[0]->type == GGML_TYPE_F32) return 0;
      return ggml_row_size(GGML_TYPE_F16, ggml_nelements(node.src[1]));  // what is quantised takes less
    case GGML_OP_TOP_K:
    case GGML_OP_SOFT_MAX:
      return ggml_row_size(GGML_TYPE_F32, node.src[0]->ne[0]) * static_cast<uint64_t>(n_thread);
    default:
      return 0;
  }
}

// Of all groups together, by one token; never 0.  Of each it only grows with a timeline, so equal sums are
// equal rows of every group.
int64_t rows_seen_by(const TokenSpan& span) {
  int64_t rows = 1;
  for (const RowGroup& group : span.state->plan().groups()) rows += group.rows_seen(span.first + 1);
  return rows;
}

}  // namespace

DecodeGraphs::DecodeGraphs(const Decoder& decoder, const StatePlan& plan, int32_t lane, int room)
    : lane_(lane), head_(room * kSmallGraphNodes), kept_head_(kSmallGraphNodes) {
  const size_t n_side = plan.has_overwritten() ? 2 : 1;
  for (Segments& segments : std::span(segments_).first(n_side)) {
    for (int i = 0; i < decoder.n_segment(); ++i) {
      segments.graphs.emplace_back(room * decoder.max_segment_nodes(i));
      segments.kept.emplace_back(decoder.max_segment_nodes(i));
    }
  }
  if (decoder.shape().shared.n_ff == 0) return;
  for (size_t i = 0; i < decoder.expert_layers().size(); ++i) {
    shared_.emplace_back(room * kSmallGraphNodes);
    kept_shared_.emplace_back(kSmallGraphNodes);
  }
}

DensePass::DensePass(Backend& backend, const Backend& host, const Decoder& decoder, const Options& options)
    : backend_(&backend),
      decoder_(&decoder),
      options_(options),
      room_(backend.computes_on_host_memory() ? 1 : FiniteSums::kNodes),
      sums_(backend.computes_on_host_memory() ? nullptr : std::make_unique<FiniteSums>(backend, host)),
      graph_(room_ * (decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1))),
      checked_(std::max(2, room_) * (decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1))),
      kept_(decoder.max_segment_nodes(0) + decoder.max_segment_nodes(1)) {}

// What was abandoned may still run, in memory that goes.
DensePass::~DensePass() {
  if (shared_) static_cast<void>(backend_->settle());
}

LayerInputs DensePass::inputs(Graph& graph, const TokenSpan& span) const {
  ggml_context* ctx = graph.context();
  const Activations& a = span.columns->device;
  LayerInputs inputs{.context = ctx,
                     .graph = graph.graph(),
                     .n_token = span.n_token,
                     .positions = ggml_view_1d(ctx, a.positions, span.n_token, 0),
                     .query_scale = a.query_scale == nullptr
                                        ? nullptr
                                        : ggml_view_3d(ctx, a.query_scale, 1, 1, span.n_token, sizeof(float),
                                                       sizeof(float), 0),
                     .chosen_rows = a.chosen_rows,
                     .state = span.state,
                     .groups = {},
                     .flash_attention = options_.flash_attention,
                     .tiled_attention = (options_.asked != nullptr ? options_.asked : backend_)->is_cpu()};
  const std::vector<RowGroup>& groups = span.state->plan().groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    const RowActivations& from = a.groups[i];
    RowInputs& to = inputs.groups[i];
    const bool any = span.first == TokenSpan::kAnywhere;
    to.n_seen = any ? groups[i].rows() : groups[i].rows_seen(span.first + span.n_token);
    to.n_written =
        any ? groups[i].max_rows_written(span.n_token) : groups[i].rows_written(span.first, span.n_token);
    to.written = ggml_view_1d(ctx, from.written, to.n_written, 0);
    to.mask =
        ggml_view_2d(ctx, from.mask, to.n_seen, span.n_token, ggml_row_size(GGML_TYPE_F16, to.n_seen), 0);
    if (!groups[i].in_blocks()) continue;
    to.sources = ggml_view_2d(ctx, from.sources, from.sources->ne[0], to.n_written, from.sources->nb[1], 0);
    to.sources_mask = ggml_view_2d(ctx, from.sources_mask, from.sources_mask->ne[0], to.n_written,
                                   from.sources_mask->nb[1], 0);
    to.first_positions = ggml_view_1d(ctx, from.first_positions, to.n_written, 0);
  }
  return inputs;
}

bool DensePass::supports_flash_attention(const Backend& backend, const Decoder& decoder,
                                         const SequenceState& state) {
  // Of two tokens, since one may go without, and of as many as attention makes a tile of.
  if (!supports_flash_attention(backend, decoder, state, 2)) return false;
  return !backend.is_cpu() || supports_flash_attention(backend, decoder, state, kTileQueries);
}

// Built by the model itself, so that the question is asked with its real shapes.
bool DensePass::supports_flash_attention(const Backend& backend, const Decoder& decoder,
                                         const SequenceState& state, int64_t n_token) {
  const StatePlan::Options& plan = state.plan().options();
  n_token = std::min<int64_t>({n_token, plan.chunk, plan.context});
  Graph graph(decoder.max_segment_nodes(0));
  bool supported = true;
  for (int layer = 0; supported && layer < decoder.shape().n_layer; ++layer) {
    if (!decoder.shape().layer_parts(layer).attention) continue;
    graph.reset();
    ggml_context* ctx = graph.context();
    LayerInputs inputs{.context = ctx,
                       .graph = graph.graph(),
                       .n_token = n_token,
                       .positions = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_token),
                       .query_scale = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 1, 1, n_token),
                       .chosen_rows = nullptr,
                       .state = &state,
                       .groups = {},
                       .flash_attention = true,
                       .tiled_attention = backend.is_cpu()};
    for (size_t i = 0; i < state.plan().groups().size(); ++i) {
      const RowGroup& group = state.plan().groups()[i];
      RowInputs& rows = inputs.groups[i];
      rows.n_seen = group.rows_seen(n_token);
      rows.n_written = group.rows_written(0, n_token);
      rows.written = ggml_new_tensor_1d(ctx, GGML_TYPE_I64, rows.n_written);
      rows.mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, rows.n_seen, n_token);
      if (!group.in_blocks()) continue;
      rows.sources = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, group.kind().made_from, rows.n_written);
      rows.sources_mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, group.kind().made_from, rows.n_written);
      rows.first_positions = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, rows.n_written);
    }
    ggml_tensor* x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, decoder.shape().n_embd, n_token);
    graph.expand(decoder.architecture().attention(inputs, layer, x));
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) {
      const ggml_tensor* node = ggml_graph_node(graph.graph(), i);
      if (node->op == GGML_OP_FLASH_ATTN_EXT) supported = supported && backend.supports(node);
    }
  }
  return supported;
}

Result<std::unique_ptr<DensePass>> DensePass::create(Backend& backend, const Backend& host,
                                                     const Decoder& decoder, const Checkpoint& file,
                                                     const SequenceState& state, const Options& options) {
  std::unique_ptr<DensePass> pass(new DensePass(backend, host, decoder, options));
  ODMOE_RETURN_IF_ERROR(pass->allocate(host, file, state));
  return pass;
}

Status DensePass::allocate(const Backend& host, const Checkpoint& file, const SequenceState& state) {
  const ModelShape& shape = decoder_->shape();
  const int64_t chunk = options_.chunk;
  const int64_t n = std::max<int64_t>(chunk, options_.lanes);
  ODMOE_ASSIGN_OR_RETURN(
      memory_,
      EvaluationMemory::create(
          *backend_, host, *decoder_, state.plan(),
          {.tokens = chunk, .lanes = options_.lanes, .places = options_.places, .logits = kHeadColumns}));

  // The compute buffer is made for the largest graph, so that no later one makes it grow.
  allocator_.reset(ggml_gallocr_new(backend_->buffer_type()));
  uint64_t widest_product = 0;  // values of a token that a weight is multiplied with
  uint64_t other_work = 0;      // bytes of ggml's work buffer for what is not such a product
  const auto reserve_graph = [&](const Graph& graph, const char* what) -> Status {
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) {
      const ggml_tensor* node = ggml_graph_node(graph.graph(), i);
      if (node->op == GGML_OP_MUL_MAT && node->src[0]->op == GGML_OP_NONE) {
        widest_product = std::max(widest_product, static_cast<uint64_t>(node->src[1]->ne[0]));
      }
      other_work = std::max(other_work, work_beside_weights(*node, backend_->threads()));
      if (options_.asked != nullptr ? options_.asked->supports(node) : backend_->supports(node)) continue;
      const std::string operation =
          odmoe::format("{} on {}", ggml_op_desc(node),
                        ggml_type_name(node->src[0] != nullptr ? node->src[0]->type : node->type));
      if (options_.asked != nullptr) {
        // What looks at values on the host is not the device's.
        if (node->op == GGML_OP_CUSTOM || std::ranges::contains(*options_.lacking, operation)) continue;
        options_.lacking->push_back(operation);
        continue;
      }
      return fail(ErrorKind::kUnsupported, "{}: {} cannot compute {} in the {}{}", file.path().string(),
                  sums_ == nullptr ? "this ggml" : backend_->description(), operation, what,
                  sums_ == nullptr ? "" : "; use --device cpu, or another that `odmoe devices MODEL` shows");
    }
    if (!ggml_gallocr_reserve(allocator_.get(), graph.graph())) {
      return fail(ErrorKind::kIo, "no memory{} for the compute buffer; use a smaller --chunk or --context",
                  sums_ == nullptr ? "" : " on " + backend_->description());
    }
    return {};
  };
  const auto reserve_checked = [&](const char* what, FiniteWhat looked_at) -> Status {
    checked_.reset();
    if (sums_ == nullptr) {
      checks_.add(graph_.graph(), checked_, looked_at);
    } else {
      ODMOE_ASSIGN_OR_RETURN(summed_, sums_->add(graph_.graph(), checked_, looked_at));
    }
    return reserve_graph(checked_, what);
  };
  KeptOperands kept(decoder_->max_segment_nodes(0) + decoder_->max_segment_nodes(1));
  const TokenSpan many{
      .columns = &memory_->all(), .state = &state, .first = TokenSpan::kAnywhere, .n_token = chunk};
  TokenSpan nearly_a_tile = many;  // of which attention makes one
  nearly_a_tile.n_token = std::min(chunk, kTileQueries - 1);
  const TokenSpan one{
      .columns = &memory_->lane(0), .state = &state, .first = TokenSpan::kAnywhere, .n_token = 1};
  // `build` makes a graph of a span; of a single token operands are kept.
  const auto reserve = [&](const char* what, const auto& build) -> Status {
    graph_.reset();
    build(many);
    ODMOE_RETURN_IF_ERROR(reserve_checked(what, FiniteWhat::kHiding));
    graph_.reset();
    build(one);
    ODMOE_RETURN_IF_ERROR(kept.keep(graph_, sums_.get()));
    graph_bytes_ += ggml_used_mem(graph_.context());
    return reserve_graph(graph_, what);
  };
  for (int segment = 0; segment < decoder_->n_segment(); ++segment) {
    const auto build = [&](const TokenSpan& span) {
      decoder_->build_segment(inputs(graph_, span), span.columns->device, segment);
    };
    ODMOE_RETURN_IF_ERROR(reserve("layers", build));
    graph_.reset();
    build(nearly_a_tile);
    ODMOE_RETURN_IF_ERROR(reserve_checked("layers", FiniteWhat::kHiding));
  }
  if (state.plan().has_overwritten()) graph_bytes_ *= 2;  // they are built for both sides
  for (const TokenSpan& span : {many, nearly_a_tile, one}) {
    graph_.reset();
    decoder_->build_segment(inputs(graph_, span), span.columns->device, 0);
    ODMOE_RETURN_IF_ERROR(reserve_checked("layers", FiniteWhat::kAll));
  }
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

  ODMOE_RETURN_IF_ERROR(set_up_joint(state));

  // ggml's CPU backend converts the inputs of a product to the weights' own dot type in a work buffer of its
  // own; no row of ours is wider than this, and no dot type wider than F32.
  const uint64_t widest = std::max(
      widest_product, static_cast<uint64_t>(std::max<int64_t>(
                          {shape.n_embd, shape.n_ff, int64_t{shape.router.n_expert_used} * shape.n_ff_exp,
                           2 * static_cast<int64_t>(shape.n_head) * 128})));
  const uint64_t work_bytes =
      std::max(static_cast<uint64_t>(n) * widest * sizeof(float), other_work) + 4 * kMiB;
  const uint64_t compute_bytes = ggml_gallocr_get_buffer_size(allocator_.get(), 0) + work_bytes;
  if (sums_ == nullptr) {
    host_bytes_ = memory_->device_bytes() + compute_bytes + joint_bytes_;
  } else {
    sums_->keep_room();
    host_bytes_ = memory_->host_bytes() + sums_->bytes();
    device_bytes_ = memory_->device_bytes() + sums_->bytes() + compute_bytes;
  }
  return {};
}

void DensePass::set_inputs(const TokenSpan& span, std::span<const int32_t> tokens) {
  if (std::exchange(shared_, std::nullopt)) static_cast<void>(backend_->settle());  // of what was abandoned
  const EvaluationColumns& columns = *span.columns;
  const int64_t n = span.n_token;
  std::ranges::copy(tokens, columns.tokens.values().begin());
  std::iota(columns.positions.values().begin(), columns.positions.values().begin() + n,
            static_cast<int32_t>(span.first));
  columns.tokens.send(0, n);
  columns.positions.send(0, n);
  if (columns.query_scale) {
    for (int64_t i = 0; i < n; ++i) {
      columns.query_scale.values()[static_cast<size_t>(i)] =
          decoder_->architecture().query_scale(span.first + i);
    }
    columns.query_scale.send(0, n);
  }
  const std::vector<RowGroup>& groups = span.state->plan().groups();
  for (size_t i = 0; i < groups.size(); ++i) {
    const RowGroup& group = groups[i];
    const RowColumns& rows = columns.groups[i];
    const int64_t n_written = group.rows_written(span.first, n);
    group.fill_rows(span.first, n, rows.written.values());
    group.fill_mask(span.first, n, rows.mask.values());
    rows.written.send(0, n_written);
    rows.mask.send_values(static_cast<size_t>(n * group.rows_seen(span.first + n)));
    if (!group.in_blocks()) continue;
    group.fill_sources(span.first, n, rows.sources.values(), rows.sources_mask.values());
    group.fill_first_positions(span.first, n, rows.first_positions.values());
    rows.sources.send(0, n_written);
    rows.sources_mask.send(0, n_written);
    rows.first_positions.send(0, n_written);
  }
}

void DensePass::keep(Graph& graph, KeptOperands& kept) {
  const Status kept_all = kept.keep(graph, sums_.get());
  GGML_ASSERT(kept_all.has_value() && "allocate() has made room for the largest");
}

void DensePass::take_experts(const TokenSpan& span) const {
  const int64_t n = span.n_token * decoder_->shape().router.n_expert_used;
  if (!options_.experts_on_device) span.columns->expert_output.send(0, n);
  span.columns->expert_weight.send(0, n);
}

// Addresses are in the compute buffer, which never moves: a graph can run again and again.
void DensePass::build_segments(const TokenSpan& span) {
  DecodeGraphs::Segments& segments = span.graphs->segments_[static_cast<size_t>(span.state->side())];
  for (int segment = 0; segment < decoder_->n_segment(); ++segment) {
    Graph& graph = segments.graphs[static_cast<size_t>(segment)];
    graph.reset();
    decoder_->build_segment(inputs(graph, span), span.columns->device, segment);
    keep(graph, segments.kept[static_cast<size_t>(segment)]);
    ggml_gallocr_alloc_graph(allocator_.get(), graph.graph());
  }
  segments.rows_seen = rows_seen_by(span);
}

void DensePass::build_others(const TokenSpan& span) {
  DecodeGraphs& graphs = *span.graphs;
  const Activations& a = span.columns->device;
  for (size_t i = 0; i < graphs.shared_.size(); ++i) {
    Graph& graph = graphs.shared_[i];
    graph.reset();
    decoder_->build_shared_expert(graph.context(), graph.graph(), a, decoder_->expert_layers()[i], 1);
    keep(graph, graphs.kept_shared_[i]);
    ggml_gallocr_alloc_graph(allocator_.get(), graph.graph());
  }
  graphs.head_.reset();
  decoder_->build_head(graphs.head_.context(), graphs.head_.graph(), a, 0, 1, memory_->logits().device());
  keep(graphs.head_, graphs.kept_head_);
  ggml_gallocr_alloc_graph(allocator_.get(), graphs.head_.graph());
  graphs.others_built_ = true;
}

TokenSpan DensePass::begin(const SequenceState& state, DecodeGraphs& graphs,
                           std::span<const int32_t> tokens) {
  const auto n_token = std::ssize(tokens);
  assert(n_token >= 1 && n_token <= options_.chunk);
  const TokenSpan span{.columns = n_token == 1 ? &memory_->lane(graphs.lane_) : &memory_->all(),
                       .state = &state,
                       .graphs = &graphs,
                       .first = state.length(),
                       .n_token = n_token};
  set_inputs(span, tokens);
  if (n_token > 1) return span;
  const DecodeGraphs::Segments& segments = graphs.segments_[static_cast<size_t>(state.side())];
  if (segments.rows_seen != rows_seen_by(span)) build_segments(span);
  if (!graphs.others_built_) build_others(span);
  return span;
}

TokenSpan DensePass::begin_in_place(const SequenceState& state, int32_t place,
                                    std::span<const int32_t> tokens) {
  const auto n_token = std::ssize(tokens);
  assert(n_token > 1 && n_token <= options_.chunk);
  const TokenSpan span{
      .columns = &memory_->place(place), .state = &state, .first = state.length(), .n_token = n_token};
  set_inputs(span, tokens);
  return span;
}

TokenSpan DensePass::begin_single(const SequenceState& state, int64_t position, int32_t lane, int32_t token) {
  const TokenSpan span{.columns = &memory_->lane(lane), .state = &state, .first = position, .n_token = 1};
  set_inputs(span, {&token, 1});
  return span;
}

}  // namespace odmoe
