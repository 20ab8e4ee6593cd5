// What a dense pass computes is looked at: a value that is not finite ends the evaluation, with the layer and
// the part of it where that began.  ggml would go on, and a token would be chosen from the wrong values.
//
// What is looked at, for each token: the input and the logits of every router, what may be hidden by
// an operation (finite_watch.h), the input of the output head and the logits.  Whatever is not finite in a
// layer is in its router's input or in the next layer's, since the residual stream only ever adds.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/finite.h"
#include "engine/dense_pass.h"

namespace odmoe {
namespace {

// The first column of [first, end) on the host that is not finite; `end`: none.
int64_t first_not_finite_column(const Exchange<float>& matrix, int64_t first, int64_t end) {
  return first_row_not_finite(matrix.host(), first, end);
}

bool column_is_finite(const Exchange<float>& matrix, int64_t column) {
  return first_not_finite_column(matrix, column, column + 1) > column;
}

// Which token a row of an operand belongs to: the second dimension counts tokens, or heads within a token.
int64_t token_of(const NotFinite& found, int64_t n_token) {
  const int64_t ne1 = found.tensor->ne[1];
  if (ne1 == n_token) return found.row % ne1;
  return found.tensor->ne[2] == n_token ? found.row / ne1 % n_token : 0;
}

// The name of a weight that a node uses; empty: none.
std::string_view weight_of(const ggml_tensor* node) {
  for (const ggml_tensor* source : node->src) {
    if (source == nullptr) continue;
    const std::string_view name(source->view_src != nullptr ? source->view_src->name : source->name);
    if (name.starts_with("blk.") || name.starts_with("token_embd.")) return name;
  }
  return {};
}

// "layer 2, attention (blk.2.attn_v.weight)".
std::string describe_weight(std::string_view name) {
  if (!name.starts_with("blk.")) return odmoe::format("the embedding ({})", name);
  const std::string_view rest = name.substr(4);
  int layer = 0;
  std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const char* part = rest.contains(".ffn_gate_inp.") ? "router"
                     : rest.contains(".ffn_")        ? "feed-forward network"
                                                     : "attention";
  return odmoe::format("layer {}, {} ({})", layer, part, name);
}

}  // namespace

Error not_finite_error(const std::string& where, int64_t position) {
  // Keys and values may be too large for half precision alone.
  const char* hint = where.contains("attention") ? ", or try --cache-type f32" : "";
  return {
      ErrorKind::kBadFile,
      odmoe::format("values that are not finite (NaN or infinite) begin in {}, for the token at position {}; "
                    "a weight is damaged or too large: compare the model's files with their source{}",
                    where, position, hint)};
}

Status DensePass::check_router_biases() const {
  for (const int layer : decoder_->expert_layers()) {
    // Minus infinity is a way to say that an expert is never to be chosen.
    const auto is_wrong = [](float bias) { return std::isnan(bias) || (std::isinf(bias) && bias > 0); };
    if (std::ranges::any_of(decoder_->selection_bias(layer), is_wrong)) {
      return fail(ErrorKind::kBadFile,
                  "layer {}, router: blk.{}.exp_probs_b.bias has a value that is not finite; the model is "
                  "damaged: compare its files with their source",
                  layer, layer);
    }
  }
  return {};
}

template <typename Build>
Status DensePass::build_and_launch(FiniteWhat what, const Build& build) {
  graph_.reset();
  build(graph_);
  checked_.reset();
  launched_ = nullptr;
  if (sums_ != nullptr) {
    ODMOE_ASSIGN_OR_RETURN(summed_, sums_->add(graph_.graph(), checked_, what));
  } else {
    checks_.forget();
    checks_.add(graph_.graph(), checked_, what);
  }
  ggml_gallocr_alloc_graph(allocator_.get(), checked_.graph());
  multiplied_bytes_ += multiplied_bytes(graph_.graph());
  ODMOE_RETURN_IF_ERROR(backend_->launch(checked_.graph()));
  if (sums_ != nullptr) sums_->queue_fetch(summed_);
  return {};
}

// A single token's graph is one that is there, or else one that is built for this run, the same in all.
template <typename Build>
Status DensePass::launch(const TokenSpan& span, Graph* built, const KeptOperands* kept, const Build& build) {
  if (span.n_token > 1) return build_and_launch(FiniteWhat::kHiding, build);
  if (built == nullptr) {
    graph_.reset();
    build(graph_);
    keep(graph_, kept_);
    ggml_gallocr_alloc_graph(allocator_.get(), graph_.graph());
    built = &graph_;
    kept = &kept_;
  }
  launched_ = kept;
  multiplied_bytes_ += multiplied_bytes(built->graph());
  ODMOE_RETURN_IF_ERROR(backend_->launch(built->graph()));
  kept->queue_fetch();
  return {};
}

// In what was launched last, once it has run.
NotFinite DensePass::found() const {
  if (launched_ != nullptr) return launched_->look();
  return sums_ != nullptr ? sums_->look(summed_) : checks_.found();
}

Status DensePass::segment(const TokenSpan& span, size_t segment, std::span<const int32_t> chosen) {
  ODMOE_RETURN_IF_ERROR(check_shared_expert());
  const auto build = [&](Graph& graph) {
    decoder_->build_segment(inputs(graph, span), span.columns->device, static_cast<int>(segment));
  };
  DecodeGraphs::Segments* const segments =
      span.graphs == nullptr ? nullptr : &span.graphs->segments_[static_cast<size_t>(span.state->side())];
  const bool built = segments != nullptr && span.n_token == 1;
  ODMOE_RETURN_IF_ERROR(launch(span, built ? &segments->graphs[segment] : nullptr,
                               built ? &segments->kept[segment] : nullptr, build));
  const bool last = segment == decoder_->expert_layers().size();  // the head looks at what it begins with
  const EvaluationColumns& columns = *span.columns;
  if (!last) {
    columns.ffn_input.queue_fetch(0, span.n_token);
    if (columns.expert_input) columns.expert_input.queue_fetch(0, span.n_token);
    columns.router_logits.queue_fetch(0, span.n_token);
  }
  ODMOE_RETURN_IF_ERROR(backend_->settle());
  const auto finite = [&](const Exchange<float>& matrix) {
    return !matrix || all_finite(matrix.columns(0, span.n_token));
  };
  const bool good =
      !found() &&
      (last || (finite(columns.ffn_input) && finite(columns.expert_input) && finite(columns.router_logits)));
  if (good) return {};
  return std::unexpected(segment == 0 ? where_it_began_in_the_first(span)
                                      : where_it_began(span, segment, chosen));
}

Status DensePass::shared_expert(const TokenSpan& span, size_t segment) {
  ODMOE_RETURN_IF_ERROR(check_shared_expert());
  const int layer = decoder_->expert_layers()[segment];
  DecodeGraphs* const graphs = span.n_token == 1 ? span.graphs : nullptr;
  ODMOE_RETURN_IF_ERROR(launch(span, graphs == nullptr ? nullptr : &graphs->shared_[segment],
                               graphs == nullptr ? nullptr : &graphs->kept_shared_[segment],
                               [&](Graph& graph) {
                                 decoder_->build_shared_expert(graph.context(), graph.graph(),
                                                               span.columns->device, layer, span.n_token);
                               }));
  shared_ = {.span = span, .segment = segment};
  return sums_ != nullptr ? Status() : check_shared_expert();
}

Status DensePass::check_shared_expert() {
  if (!shared_) return {};
  const auto [span, segment] = *std::exchange(shared_, std::nullopt);
  ODMOE_RETURN_IF_ERROR(backend_->settle());
  const NotFinite not_finite = found();
  if (!not_finite) return {};
  return std::unexpected(
      not_finite_error(odmoe::format("layer {}, shared expert", decoder_->expert_layers()[segment]),
                       position(*span.columns, token_of(not_finite, span.n_token))));
}

Status DensePass::head(const TokenSpan& span, int64_t first, int64_t n, std::span<const int32_t> chosen) {
  ODMOE_RETURN_IF_ERROR(check_shared_expert());
  const auto build = [&](Graph& graph) {
    decoder_->build_head(graph.context(), graph.graph(), span.columns->device, first, n,
                         memory_->logits().device());
  };
  const auto begins_well = [&] {
    return first_not_finite_column(span.columns->layer_input, first, first + n) == first + n;
  };
  if (sums_ == nullptr && !begins_well()) {
    return std::unexpected(where_it_began(span, decoder_->expert_layers().size(), chosen));
  }
  DecodeGraphs* const graphs = span.n_token == 1 ? span.graphs : nullptr;
  ODMOE_RETURN_IF_ERROR(launch(span, graphs == nullptr ? nullptr : &graphs->head_,
                               graphs == nullptr ? nullptr : &graphs->kept_head_, build));
  span.columns->layer_input.queue_fetch(first, n);
  memory_->logits().queue_fetch(0, n);
  ODMOE_RETURN_IF_ERROR(backend_->settle());
  if (sums_ != nullptr && !begins_well()) {
    return std::unexpected(where_it_began(span, decoder_->expert_layers().size(), chosen));
  }
  const NotFinite not_finite = found();
  const int64_t row = not_finite ? token_of(not_finite, n) : first_not_finite_column(memory_->logits(), 0, n);
  if (row == n) return {};
  return std::unexpected(head_not_finite(*span.columns, first + row));
}

Error DensePass::head_not_finite(const EvaluationColumns& columns, int64_t column) {
  return not_finite_error("the output head, after the last layer (output_norm.weight, output.weight)",
                          position(columns, column));
}

// Segments of one layer leave what it began with: they are asked in order.  Of several, only what the experts
// before them gave is left.
Error DensePass::where_it_began(const TokenSpan& span, size_t segment, std::span<const int32_t> chosen) {
  const EvaluationColumns& a = *span.columns;
  for (const Exchange<float>* matrix : {&a.layer_input, &a.residual}) matrix->fetch(0, span.n_token);
  const std::vector<int>& layers = decoder_->expert_layers();
  const bool last = segment == layers.size();
  const int layer = last ? decoder_->shape().n_layer - 1 : layers[segment];
  const int first_layer = segment == 0 ? 0 : layers[segment - 1] + 1;
  const bool several = last ? layer >= first_layer : layer > first_layer;
  for (int64_t t = 0; t < span.n_token; ++t) {
    if (several) {
      if (auto error = in_one_expert(span, segment - 1, t, chosen)) return *error;
    } else if (!column_is_finite(a.layer_input, t)) {
      return in_experts(span, segment - 1, t, chosen);
    }
  }
  const auto first_of = [&](const Exchange<float>& matrix) {
    return first_not_finite_column(matrix, 0, span.n_token);
  };
  if (several) {
    const int64_t t = std::min({first_of(a.layer_input), first_of(a.residual), span.n_token - 1});
    return not_finite_error(first_layer == layer ? odmoe::format("layer {}", layer)
                                                 : odmoe::format("layers {} to {}", first_layer, layer),
                            position(a, t));
  }
  const bool residual_is_finite = first_of(a.residual) == span.n_token;
  if (residual_is_finite && first_of(a.ffn_input) < span.n_token) {
    return not_finite_error(odmoe::format("layer {}, the norm before its router ({})", layer,
                                          decoder_->shape().router_norm(layer)),
                            position(a, first_of(a.ffn_input)));
  }
  if (residual_is_finite && first_of(a.router_logits) < span.n_token) {
    return not_finite_error(odmoe::format("layer {}, router", layer), position(a, first_of(a.router_logits)));
  }
  if (residual_is_finite && a.expert_input && first_of(a.expert_input) < span.n_token) {
    return not_finite_error(odmoe::format("layer {}, what its experts see", layer),
                            position(a, first_of(a.expert_input)));
  }
  return not_finite_error(odmoe::format("layer {}, attention", layer),
                          position(a, std::min(first_of(a.residual), span.n_token - 1)));
}

// What expert_layers()[segment] left is not finite for a token.
Error DensePass::in_experts(const TokenSpan& span, size_t segment, int64_t token,
                            std::span<const int32_t> chosen) const {
  if (auto error = in_one_expert(span, segment, token, chosen)) return *error;
  return not_finite_error(
      odmoe::format("layer {}, the sum of its experts", decoder_->expert_layers()[segment]),
      position(*span.columns, token));
}

// None when what each of its experts gave for the token is finite.
std::optional<Error> DensePass::in_one_expert(const TokenSpan& span, size_t segment, int64_t token,
                                              std::span<const int32_t> chosen) const {
  const EvaluationColumns& a = *span.columns;
  const int layer = decoder_->expert_layers()[segment];
  const int64_t at = position(a, token);
  const auto n_used = static_cast<int64_t>(decoder_->shape().router.n_expert_used);
  if (options_.experts_on_device) a.expert_output.fetch(token * n_used, n_used);
  for (int64_t rank = 0; rank < n_used; ++rank) {
    if (column_is_finite(a.expert_output, token * n_used + rank)) continue;
    return not_finite_error(
        odmoe::format("layer {}, expert {}", layer, chosen[static_cast<size_t>(token * n_used + rank)]), at);
  }
  if (a.shared_output) a.shared_output.fetch(token, 1);
  if (a.shared_output && !column_is_finite(a.shared_output, token)) {
    return not_finite_error(odmoe::format("layer {}, shared expert", layer), at);
  }
  return std::nullopt;
}

// The first segment has the embedding and all dense layers, of which nothing is left; but what it began with
// is.  So it is run again, and every node is looked at.  The rows of the KV cache get what they have.
Error DensePass::where_it_began_in_the_first(const TokenSpan& span) {
  Status status = build_and_launch(FiniteWhat::kAll, [&](Graph& graph) {
    decoder_->build_segment(inputs(graph, span), span.columns->device, 0);
  });
  if (status.has_value()) status = backend_->settle();
  if (!status.has_value()) return status.error();
  const NotFinite found = this->found();
  std::string_view weight;  // the last one that was used until then
  for (int i = 0; found && i < ggml_graph_n_nodes(graph_.graph()); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph_.graph(), i);
    if (const std::string_view used = weight_of(node); !used.empty()) weight = used;
    if (node == found.tensor) break;
  }
  if (weight.empty()) return not_finite_error("the first layers", position(*span.columns, 0));
  return not_finite_error(describe_weight(weight), position(*span.columns, token_of(found, span.n_token)));
}

}  // namespace odmoe
