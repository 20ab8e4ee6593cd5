// What a forward pass computes is looked at: a value that is not finite ends the evaluation, with the layer
// and the part of it where that began.  ggml would go on and choose a token from what comes of it.
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

#include "base/finite.h"
#include "engine/forward_pass.h"

namespace odmoe {
namespace {

Error not_finite(const std::string& where, int64_t position) {
  // Keys and values may be too large for half precision alone.
  const char* hint = where.contains("attention") ? ", or try --cache-type f32" : "";
  return {
      ErrorKind::kBadFile,
      odmoe::format("values that are not finite (NaN or infinite) begin in {}, for the token at position {}; "
                    "a weight is damaged or too large: compare the model's files with their source{}",
                    where, position, hint)};
}

int64_t position_of(const Activations& a, int64_t token) {
  return static_cast<const int32_t*>(a.positions->data)[token];
}

// Of the first n columns.
bool finite(const ggml_tensor* matrix, int64_t n) {
  return all_finite({static_cast<const float*>(matrix->data), static_cast<size_t>(matrix->ne[0] * n)});
}

bool column_is_finite(const ggml_tensor* matrix, int64_t column) {
  return first_row_not_finite(matrix, column, column + 1) > column;
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

Status ForwardPass::check_router_biases() const {
  for (const int layer : decoder_->expert_layers()) {
    // Minus infinity is a way to say that an expert is never to be chosen.
    const auto is_wrong = [](float bias) { return std::isnan(bias) || (std::isinf(bias) && bias > 0); };
    if (std::ranges::any_of(decoder_->router_bias(layer), is_wrong)) {
      return fail(ErrorKind::kBadFile,
                  "layer {}, router: blk.{}.exp_probs_b.bias has a value that is not finite; the model is "
                  "damaged: compare its files with their source",
                  layer, layer);
    }
  }
  return {};
}

template <typename Build>
Status ForwardPass::build_and_run(const Build& build) {
  graph_.reset();
  build(graph_);
  checked_.reset();
  checks_.forget();
  checks_.add(graph_.graph(), checked_, FiniteChecks::What::kHiding);
  ggml_gallocr_alloc_graph(allocator_.get(), checked_.graph());
  return backend_->compute(checked_.graph());
}

Status ForwardPass::compute_segment(const Part& part, size_t segment) {
  NotFinite found;
  if (part.n_token == 1) {
    ODMOE_RETURN_IF_ERROR(backend_->compute(part.graphs->segments_[segment].graph()));
    found = part.graphs->kept_[segment].look();
  } else {
    ODMOE_RETURN_IF_ERROR(build_and_run([&](Graph& graph) {
      decoder_->build_segment(inputs(graph, *part.a, *part.kv, part.n_token, part.n_kv), *part.a,
                              static_cast<int>(segment));
    }));
    found = checks_.found();
  }
  const bool last = segment == decoder_->expert_layers().size();  // the head looks at what it begins with
  const bool good =
      !found &&
      (last || (finite(part.a->ffn_input, part.n_token) && finite(part.a->router_logits, part.n_token)));
  if (good) return {};
  return std::unexpected(segment == 0 ? where_it_began_in_the_first(part) : where_it_began(part, segment));
}

Status ForwardPass::compute_shared_expert(const Part& part, size_t segment) {
  const int layer = decoder_->expert_layers()[segment];
  NotFinite found;
  if (part.n_token == 1) {
    ODMOE_RETURN_IF_ERROR(backend_->compute(part.graphs->shared_[segment].graph()));
    found = part.graphs->kept_shared_[segment].look();
  } else {
    ODMOE_RETURN_IF_ERROR(build_and_run([&](Graph& graph) {
      decoder_->build_shared_expert(graph.context(), graph.graph(), *part.a, layer, part.n_token);
    }));
    found = checks_.found();
  }
  if (!found) return {};
  return std::unexpected(not_finite(odmoe::format("layer {}, shared expert", layer),
                                    position_of(*part.a, token_of(found, part.n_token))));
}

// Columns [first, first + n) of what the layers gave -> the first n columns of logits_.
Status ForwardPass::compute_head(const Part& part, int64_t first, int64_t n) {
  const int64_t bad = first_row_not_finite(part.a->layer_input, first, first + n);
  if (bad < first + n) return std::unexpected(where_it_began(part, decoder_->expert_layers().size()));
  NotFinite found;
  if (part.n_token == 1) {
    ODMOE_RETURN_IF_ERROR(backend_->compute(part.graphs->head_.graph()));
    found = part.graphs->kept_head_.look();
  } else {
    ODMOE_RETURN_IF_ERROR(build_and_run([&](Graph& graph) {
      decoder_->build_head(graph.context(), graph.graph(), *part.a, first, n, logits_);
    }));
    found = checks_.found();
  }
  const int64_t row = found ? token_of(found, n) : first_row_not_finite(logits_, 0, n);
  if (row == n) return {};
  return std::unexpected(
      not_finite("the output head, after the last layer (output_norm.weight, output.weight)",
                 position_of(*part.a, first + row)));
}

// After some of a layer's experts were computed.
Status ForwardPass::check_experts(const Activations& a, int layer) {
  const std::optional<ExpertPair> bad = compute_->take_not_finite();
  if (!bad) return {};
  const auto index = static_cast<size_t>(std::ranges::find(column_, bad->token) - column_.begin());
  const auto n_used = static_cast<size_t>(decoder_->shape().router.n_expert_used);
  return std::unexpected(not_finite(
      odmoe::format("layer {}, expert {}", layer, chosen_[index * n_used + static_cast<size_t>(bad->rank)]),
      position_of(a, bad->token)));
}

// Segments but the first have one layer each and leave what it began with: they are asked in order.
Error ForwardPass::where_it_began(const Part& part, size_t segment) {
  const Activations& a = *part.a;
  for (int64_t t = 0; t < part.n_token; ++t) {
    if (!column_is_finite(a.layer_input, t)) return in_experts(part, segment - 1, t);
  }
  const bool last = segment == decoder_->expert_layers().size();
  const int layer = last ? decoder_->shape().n_layer - 1 : decoder_->expert_layers()[segment];
  const auto first_of = [&](const ggml_tensor* matrix) {
    return first_row_not_finite(matrix, 0, part.n_token);
  };
  const bool residual_is_finite = first_of(a.residual) == part.n_token;
  if (residual_is_finite && first_of(a.ffn_input) < part.n_token) {
    return not_finite(
        odmoe::format("layer {}, the norm before its router (blk.{}.ffn_norm.weight)", layer, layer),
        position_of(a, first_of(a.ffn_input)));
  }
  if (residual_is_finite && first_of(a.router_logits) < part.n_token) {
    return not_finite(odmoe::format("layer {}, router", layer), position_of(a, first_of(a.router_logits)));
  }
  return not_finite(odmoe::format("layer {}, attention", layer),
                    position_of(a, std::min(first_of(a.residual), part.n_token - 1)));
}

// What expert_layers()[segment] left is not finite for a token.
Error ForwardPass::in_experts(const Part& part, size_t segment, int64_t token) const {
  const Activations& a = *part.a;
  const int layer = decoder_->expert_layers()[segment];
  const int64_t position = position_of(a, token);
  const auto n_used = static_cast<int64_t>(decoder_->shape().router.n_expert_used);
  const auto first_choice = static_cast<size_t>((static_cast<int64_t>(part.index) + token) * n_used);
  for (int64_t rank = 0; rank < n_used; ++rank) {
    if (column_is_finite(a.expert_output, token * n_used + rank)) continue;
    return not_finite(
        odmoe::format("layer {}, expert {}", layer, chosen_[first_choice + static_cast<size_t>(rank)]),
        position);
  }
  if (a.shared_output != nullptr && !column_is_finite(a.shared_output, token)) {
    return not_finite(odmoe::format("layer {}, shared expert", layer), position);
  }
  return not_finite(odmoe::format("layer {}, the sum of its experts", layer), position);
}

// The first segment has the embedding and all dense layers, of which nothing is left; but what it began with
// is.  So it is run again, and every node is looked at.  The rows of the KV cache get what they have.
Error ForwardPass::where_it_began_in_the_first(const Part& part) {
  graph_.reset();
  decoder_->build_segment(inputs(graph_, *part.a, *part.kv, part.n_token, part.n_kv), *part.a, 0);
  checked_.reset();
  checks_.forget();
  checks_.add(graph_.graph(), checked_, FiniteChecks::What::kAll);
  ggml_gallocr_alloc_graph(allocator_.get(), checked_.graph());
  if (Status status = backend_->compute(checked_.graph()); !status.has_value()) return status.error();
  const NotFinite found = checks_.found();
  std::string_view weight;  // the last one that was used until then
  for (int i = 0; found && i < ggml_graph_n_nodes(graph_.graph()); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph_.graph(), i);
    if (const std::string_view used = weight_of(node); !used.empty()) weight = used;
    if (node == found.tensor) break;
  }
  if (weight.empty()) return not_finite("the first layers", position_of(*part.a, 0));
  return not_finite(describe_weight(weight), position_of(*part.a, token_of(found, part.n_token)));
}

}  // namespace odmoe
