#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <iterator>

#include "backend/tensor_memory.h"
#include "model/blocks/rank_sum.h"
#include "model/blocks/soft_cap.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// The first n columns of a persistent matrix.
ggml_tensor* columns(ggml_context* ctx, ggml_tensor* matrix, int64_t n, int64_t first = 0) {
  return ggml_view_2d(ctx, matrix, matrix->ne[0], n, matrix->nb[1],
                      matrix->nb[1] * static_cast<size_t>(first));
}

// Makes an operation write its result into a persistent matrix: no node has to copy it there.  The result
// must be a tensor of its own, no view of another.
ggml_tensor* write_to(ggml_tensor* matrix, ggml_tensor* result) {
  GGML_ASSERT(result->type == matrix->type && result->ne[0] == matrix->ne[0] &&
              result->ne[1] <= matrix->ne[1]);
  place_within(matrix, result);
  ggml_set_output(result);  // or a device may leave it out, where it makes one kernel of several operations
  return result;
}

// The same for streams, [n_embd, n_stream, n_token], into [n_embd * n_stream, n].
ggml_tensor* write_streams(ggml_tensor* matrix, ggml_tensor* streams) {
  GGML_ASSERT(streams->ne[0] * streams->ne[1] == matrix->ne[0] && streams->ne[2] <= matrix->ne[1]);
  place_within(matrix, streams);
  ggml_set_output(streams);
  return streams;
}

ggml_tensor* scaled(ggml_context* ctx, ggml_tensor* x, float factor) {
  return factor == 1 ? x : ggml_scale(ctx, x, factor);
}

void read_embedding(const ggml_tensor* token_embd, int32_t token, std::span<float> values) {
  const uint64_t offset = static_cast<uint64_t>(token) * token_embd->nb[1];
  if (token_embd->type == GGML_TYPE_F32) {
    read_tensor(token_embd, offset, std::as_writable_bytes(values));
  } else {
    constexpr size_t kPiece = 2048;  // a multiple of every type's block
    std::array<std::byte, kPiece * sizeof(float)> piece;
    for (size_t done = 0; done < values.size(); done += kPiece) {
      const std::span some = values.subspan(done, std::min(kPiece, values.size() - done));
      const auto bytes = std::span(piece).first(ggml_row_size(token_embd->type, std::ssize(some)));
      read_tensor(token_embd, offset + ggml_row_size(token_embd->type, static_cast<int64_t>(done)), bytes);
      ggml_get_type_traits(token_embd->type)->to_float(bytes.data(), some.data(), std::ssize(some));
    }
  }
}

}  // namespace

Result<std::unique_ptr<Decoder>> Decoder::create(Account& account, DenseWeights& weights,
                                                 const MakeArchitecture& make) {
  std::unique_ptr<Decoder> decoder(new Decoder);
  ODMOE_ASSIGN_OR_RETURN(decoder->architecture_, make(account));
  const ModelShape& shape = decoder->shape();
  const int64_t n_embd = shape.n_embd;
  decoder->token_embd_ = weights.require("token_embd.weight", {n_embd, shape.n_vocab});
  if (const std::string name(shape.layer.output_norm); !name.empty()) {
    decoder->output_norm_ = declare_norm(weights, name, n_embd, shape.layer.norm_bias);
  }
  decoder->output_ = weights.optional_matrix("output.weight", n_embd, shape.n_vocab);
  if (decoder->output_ == nullptr) decoder->output_ = decoder->token_embd_;
  if (shape.layer.output_bias) decoder->output_bias_ = weights.require("output.bias", {shape.n_vocab});
  decoder->layers_.resize(static_cast<size_t>(shape.n_layer));
  for (int i = 0; i < shape.n_layer; ++i) {
    Layer& layer = decoder->layers_[static_cast<size_t>(i)];
    decoder->declare_norms(weights, i);
    const MlpKind mlp = shape.layer_parts(i).mlp;
    if (mlp == MlpKind::kExperts) {
      decoder->expert_layers_.push_back(i);
      decoder->declare_experts(weights, i);
      for (const char* part : {"gate", "up", "gate_up", "down"}) {
        account.use_tensor(odmoe::format("blk.{}.ffn_{}_exps.weight", i, part));
      }
    } else if (mlp == MlpKind::kDense) {
      layer.ffn = declare_ffn(weights, i, "", n_embd, shape.n_ff, shape.ffn_gates);
    }
    decoder->architecture_->declare(weights, i);
    if (ResidualStreams* streams = decoder->architecture_->streams()) streams->declare(weights, i);
    if (mlp == MlpKind::kExperts && shape.shared.n_ff > 0) {
      layer.shared = declare_shared_expert(weights, shape, i);
      if (const std::string_view name = shape.shared.post_norm; !name.empty()) {
        layer.shared_post_norm =
            declare_norm(weights, odmoe::format("blk.{}.{}", i, name), n_embd, shape.layer.norm_bias);
      }
    }
    ODMOE_RETURN_IF_ERROR(weights.status());
  }
  if (ResidualStreams* streams = decoder->architecture_->streams()) {
    streams->declare_output(weights);
    ODMOE_RETURN_IF_ERROR(weights.status());
  }
  return decoder;
}

StateLayout Decoder::state_layout() const {
  StateLayout layout;
  for (int layer = 0; layer < shape().n_layer; ++layer) layout.push_back(architecture_->state(layer));
  return layout;
}

// The router, and of the experts what is always in memory.
void Decoder::declare_experts(DenseWeights& weights, int number) {
  const int64_t n_expert = shape().router.n_expert;
  const std::string prefix = odmoe::format("blk.{}.", number);
  Layer& layer = layers_[static_cast<size_t>(number)];
  layer.router = weights.require(prefix + "ffn_gate_inp.weight", {shape().n_embd, n_expert});
  if (shape().router_bias) layer.logit_bias = weights.require(prefix + "ffn_gate_inp.bias", {n_expert});
  if (number < shape().n_layer_by_token) {
    layer.experts_of_token = weights.require_host_i32(prefix + "ffn_gate_tid2eid.weight",
                                                      {shape().router.n_expert_used, shape().n_vocab});
  } else if (!shape().selection_bias.empty()) {
    layer.selection_bias = weights.optional(prefix + std::string(shape().selection_bias), {n_expert});
  }
  if (shape().extras.biases) {
    const auto declare = [&](const char* part, int64_t n) {
      return weights.require_expert_f32(odmoe::format("{}ffn_{}_exps.bias", prefix, part), {n, n_expert});
    };
    if (shape().ffn_gates) layer.terms.gate_bias = declare("gate", shape().n_ff_exp);
    layer.terms.up_bias = declare("up", shape().n_ff_exp);
    layer.terms.down_bias = declare("down", shape().expert_width());
  }
  if (shape().extras.scales) {
    layer.terms.down_scale = weights.require_expert_f32(prefix + "ffn_down_exps.scale", {n_expert});
  }
}

void Decoder::declare_norms(DenseWeights& weights, int number) {
  const LayerOptions& options = shape().layer;
  const auto declare = [&](std::string_view name) {
    if (name.empty()) return NormWeights();
    return declare_norm(weights, odmoe::format("blk.{}.{}", number, name), shape().n_embd, options.norm_bias);
  };
  Layer& layer = layers_[static_cast<size_t>(number)];
  const LayerParts parts = shape().layer_parts(number);
  if (parts.attention) {
    layer.attn_norm = declare(options.attention_norm);
    layer.attention_post_norm = declare(options.attention_post_norm);
  }
  if (parts.mlp == MlpKind::kNone) return;
  layer.ffn_norm = options.parallel ? layer.attn_norm : declare(options.ffn_norm);
  if (parts.mlp == MlpKind::kExperts) {
    if (options.router_input == RouterInput::kScaled) {
      layer.expert_norm.weight = weights.require(shape().router_norm(number), {shape().n_embd});
    } else {
      layer.expert_norm = options.expert_norm.empty() ? layer.ffn_norm : declare(options.expert_norm);
    }
  }
  layer.post_norm = declare(options.ffn_post_norm);
}

int Decoder::max_segment_nodes(int segment) const {
  // A sum of experts has two nodes per rank.  ggml asserts when a graph is too small, so a family that needs
  // more shows at once.
  const int first = segment == 0 ? 0 : expert_layers_[static_cast<size_t>(segment - 1)] + 1;
  const bool last = static_cast<size_t>(segment) == expert_layers_.size();
  const int end = last ? shape().n_layer : expert_layers_[static_cast<size_t>(segment)] + 1;
  return shape().max_layer_nodes * (end - first + 1) + 4 * shape().router.n_expert_used;
}

ggml_tensor* Decoder::normed(ggml_context* ctx, ggml_tensor* x, const NormWeights& weights) const {
  if (weights.weight == nullptr) return x;
  return norm(ctx, x, weights, shape().layer.norm, shape().norm_eps, shape().layer.norm_groups);
}

// What a router makes its product with, of what it is to see of the stream.
ggml_tensor* Decoder::router_input(ggml_context* ctx, ggml_tensor* x, const Layer& layer) const {
  const RouterInput input = shape().layer.router_input;
  if (input == RouterInput::kOfExperts && layer.expert_norm.weight != nullptr) {
    return normed(ctx, x, layer.expert_norm);
  }
  if (input != RouterInput::kScaled) return ggml_cont(ctx, x);
  const float scale = 1 / std::sqrt(static_cast<float>(shape().n_embd));
  return ggml_mul(ctx, ggml_scale(ctx, ggml_rms_norm(ctx, x, shape().norm_eps), scale),
                  layer.expert_norm.weight);
}

// The router of a layer, of what it sees, and what its experts see.
void Decoder::route(const LayerInputs& inputs, const Activations& a, int layer, ggml_tensor* seen,
                    ggml_tensor* residual) const {
  ggml_context* ctx = inputs.context;
  const Layer& w = layers_[static_cast<size_t>(layer)];
  write_to(a.ffn_input, seen);
  ggml_tensor* logits = ggml_mul_mat(ctx, w.router, seen);
  if (w.logit_bias != nullptr) logits = ggml_add(ctx, logits, w.logit_bias);
  ggml_build_forward_expand(inputs.graph, write_to(a.router_logits, logits));
  if (a.expert_input == nullptr) return;
  ggml_tensor* x = shape().layer.router_input == RouterInput::kLayerInput
                       ? normed(ctx, residual, w.ffn_norm)
                       : architecture_->expert_input(ctx, layer, seen, residual);
  ggml_build_forward_expand(inputs.graph, write_to(a.expert_input, x));
}

// What attention or MLP makes of `x`, the norm of the stream, added to the stream.
ggml_tensor* Decoder::add_branch(ggml_context* ctx, ggml_tensor* stream, ggml_tensor* x, ggml_tensor* branch,
                                 const NormWeights& post_norm) const {
  if (post_norm.weight != nullptr) branch = normed(ctx, branch, post_norm);
  if (shape().layer.norm_is_residual) {
    return ggml_add(ctx, scaled(ctx, x, shape().layer.residual_scale), branch);
  }
  return ggml_add(ctx, stream, scaled(ctx, branch, shape().layer.residual_scale));
}

ggml_tensor* Decoder::sum_experts(ggml_context* ctx, const Activations& a, int layer, int64_t n_token) const {
  const int64_t n_used = shape().router.n_expert_used;
  // In place: the outputs are not needed afterwards, and a second copy would be the largest of all buffers.
  ggml_tensor* weighted = columns(ctx, a.expert_output, n_used * n_token);
  if (!shape().extras.weigh_input) {
    weighted = ggml_mul_inplace(ctx, weighted, columns(ctx, a.expert_weight, n_used * n_token));
  }
  ggml_tensor* sum = sum_ranks(ctx, ggml_reshape_3d(ctx, weighted, weighted->ne[0], n_used, n_token));
  sum = architecture_->after_experts(ctx, layer, sum, columns(ctx, a.router_logits, n_token));
  if (a.shared_output != nullptr) sum = ggml_add(ctx, sum, columns(ctx, a.shared_output, n_token));
  return scaled(ctx, sum, shape().layer.mlp_scale);
}

void Decoder::build_segment(const LayerInputs& inputs, const Activations& a, int segment) const {
  if (architecture_->streams() != nullptr) return build_streams_segment(inputs, a, segment);
  ggml_context* ctx = inputs.context;
  const LayerOptions& options = shape().layer;
  const int64_t n_token = inputs.n_token;
  ggml_tensor* state = nullptr;
  int layer = 0;
  if (segment == 0) {
    state = scaled(ctx, ggml_get_rows(ctx, token_embd_, ggml_view_1d(ctx, a.tokens, n_token, 0)),
                   shape().layer.embedding_scale);
  } else {
    layer = expert_layers_[static_cast<size_t>(segment - 1)] + 1;
    state = add_branch(ctx, columns(ctx, a.residual, n_token), columns(ctx, a.ffn_input, n_token),
                       sum_experts(ctx, a, layer - 1, n_token),
                       layers_[static_cast<size_t>(layer - 1)].post_norm);
    state = architecture_->after_layer(ctx, layer - 1, state);
  }
  // Every graph ends with the state where the next one looks for it.
  ggml_build_forward_expand(inputs.graph, write_to(a.layer_input, state));
  for (; layer < shape().n_layer; ++layer) {
    const Layer& w = layers_[static_cast<size_t>(layer)];
    const LayerParts parts = shape().layer_parts(layer);
    const bool has_mlp = parts.mlp != MlpKind::kNone;
    ggml_tensor* residual = nullptr;
    ggml_tensor* x = nullptr;
    if (parts.attention) {
      x = normed(ctx, state, w.attn_norm);
      residual = add_branch(ctx, state, x, architecture_->attention(inputs, layer, x), w.attention_post_norm);
      write_to(has_mlp ? a.residual : a.layer_input, residual);
    } else {
      residual = write_to(a.residual, ggml_cont(ctx, state));
    }
    ggml_build_forward_expand(inputs.graph, residual);
    if (!has_mlp) {
      state = residual;
      continue;
    }
    if (parts.mlp == MlpKind::kExperts) {
      const bool early = !options.expert_norm.empty() || options.router_input == RouterInput::kLayerInput;
      if (!options.parallel) x = router_input(ctx, early ? state : residual, w);
      route(inputs, a, layer, x, residual);
      return;
    }
    if (!options.parallel) x = normed(ctx, residual, w.ffn_norm);
    ggml_tensor* y = ffn(ctx, w.ffn, shape().other_glu(layer), x);
    state = add_branch(ctx, residual, x, y, w.post_norm);
    state = write_to(a.layer_input, architecture_->after_layer(ctx, layer, state));
    ggml_build_forward_expand(inputs.graph, state);
  }
}

void Decoder::build_streams_segment(const LayerInputs& inputs, const Activations& a, int segment) const {
  const ResidualStreams& between = *architecture_->streams();
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const auto in_streams = [&](ggml_tensor* matrix, int64_t n) {
    return ggml_reshape_3d(ctx, columns(ctx, matrix, n_token), shape().n_embd, n, n_token);
  };
  ggml_tensor* banked = a.banked == nullptr ? nullptr : in_streams(a.banked, between.n_bank());
  ggml_tensor* streams = nullptr;
  int layer = 0;
  if (segment == 0) {
    streams = between.begin(
        ctx, scaled(ctx, ggml_get_rows(ctx, token_embd_, ggml_view_1d(ctx, a.tokens, n_token, 0)),
                    shape().layer.embedding_scale));
  } else {
    layer = expert_layers_[static_cast<size_t>(segment - 1)] + 1;
    const BranchStreams found = between.open(ctx, layer - 1, Branch::kMlp,
                                             in_streams(a.residual_streams, between.n_stream()), banked);
    streams = between.close(ctx, layer - 1, Branch::kMlp, found, sum_experts(ctx, a, layer - 1, n_token));
  }
  ggml_build_forward_expand(inputs.graph, write_streams(a.layer_streams, streams));
  for (; layer < shape().n_layer; ++layer) {
    const Layer& w = layers_[static_cast<size_t>(layer)];
    const BranchStreams attention = between.open(ctx, layer, Branch::kAttention, streams, banked);
    if (const int64_t number = between.bank_of(layer); number >= 0) {
      GGML_ASSERT(banked != nullptr);
      ggml_tensor* place = ggml_view_2d(ctx, banked, shape().n_embd, n_token, banked->nb[2],
                                        banked->nb[1] * static_cast<size_t>(number));
      ggml_build_forward_expand(inputs.graph, ggml_cpy(ctx, columns(ctx, a.layer_streams, n_token), place));
    }
    ggml_tensor* x = normed(ctx, write_to(a.layer_input, attention.input), w.attn_norm);
    ggml_tensor* residual =
        between.close(ctx, layer, Branch::kAttention, attention, architecture_->attention(inputs, layer, x));
    ggml_build_forward_expand(inputs.graph, write_streams(a.residual_streams, residual));
    const BranchStreams of_mlp = between.open(ctx, layer, Branch::kMlp, residual, banked);
    write_to(a.residual, of_mlp.input);
    if (shape().has_experts(layer)) {
      return route(inputs, a, layer, router_input(ctx, of_mlp.input, w), of_mlp.input);
    }
    ggml_tensor* y = ffn(ctx, w.ffn, shape().other_glu(layer), normed(ctx, of_mlp.input, w.ffn_norm));
    streams = write_streams(a.layer_streams, between.close(ctx, layer, Branch::kMlp, of_mlp, y));
    ggml_build_forward_expand(inputs.graph, streams);
  }
  ggml_build_forward_expand(inputs.graph, write_to(a.layer_input, between.end(ctx, streams, banked)));
}

void Decoder::build_shared_expert(ggml_context* ctx, ggml_cgraph* graph, const Activations& a, int layer,
                                  int64_t n_token) const {
  const Layer& w = layers_[static_cast<size_t>(layer)];
  const LayerOptions& options = shape().layer;
  const bool alike = options.expert_norm.empty() && options.router_input == RouterInput::kOfExperts;
  ggml_tensor* x =
      alike ? columns(ctx, a.ffn_input, n_token) : normed(ctx, columns(ctx, a.residual, n_token), w.ffn_norm);
  ggml_tensor* y = shared_expert(ctx, w.shared, shape().other_glu(layer), x);
  if (w.shared_post_norm.weight != nullptr) y = normed(ctx, y, w.shared_post_norm);
  ggml_build_forward_expand(graph, write_to(a.shared_output, y));
}

ggml_tensor* Decoder::router(size_t target) const {
  return layers_[static_cast<size_t>(expert_layers_[target])].router;
}

void Decoder::build_stale_gate(ggml_context* ctx, ggml_cgraph* graph, const StateBetween& state,
                               size_t target, ggml_tensor* router, ggml_tensor* logits) const {
  const int number = expert_layers_[target];
  const Layer& later = layers_[static_cast<size_t>(number)];
  ggml_tensor* x = state.residual;
  if (const ResidualStreams* between = architecture_->streams()) {
    const auto in_streams = [&](ggml_tensor* matrix, int64_t n) {
      return ggml_reshape_3d(ctx, matrix, shape().n_embd, n, 1);
    };
    ggml_tensor* streams = state.streams != nullptr ? in_streams(state.streams, between->n_stream())
                                                    : between->begin(ctx, state.residual);
    ggml_tensor* banked = state.banked == nullptr ? nullptr : in_streams(state.banked, between->n_bank());
    x = between->open(ctx, number, Branch::kMlp, streams, banked).input;
  }
  ggml_tensor* y = ggml_mul_mat(ctx, router, router_input(ctx, x, later));
  if (later.logit_bias != nullptr) y = ggml_add(ctx, y, later.logit_bias);
  ggml_build_forward_expand(graph, write_to(logits, y));
}

void Decoder::build_head(ggml_context* ctx, ggml_cgraph* graph, const Activations& a, int64_t first,
                         int64_t n, ggml_tensor* logits) const {
  ggml_tensor* x = normed(ctx, columns(ctx, a.layer_input, n, first), output_norm_);
  ggml_tensor* y = ggml_mul_mat(ctx, output_, x);
  if (output_bias_ != nullptr) y = ggml_add(ctx, y, output_bias_);
  y = scaled(ctx, y, shape().layer.logit_scale);
  if (shape().layer.logit_cap > 0) y = soft_cap(ctx, y, shape().layer.logit_cap);
  ggml_build_forward_expand(graph, write_to(logits, y));
}

void Decoder::embedding(int32_t token, std::span<float> values) const {
  try {
    read_embedding(token_embd_, token, values);
  } catch (const std::exception&) {  // of a device that has failed, which the next graph says
    std::ranges::fill(values, 0);
  }
  if (shape().layer.embedding_scale == 1) return;
  for (float& value : values) value *= shape().layer.embedding_scale;
}

std::span<const int32_t> Decoder::experts_of(int layer, int32_t token) const {
  const ggml_tensor* table = layers_[static_cast<size_t>(layer)].experts_of_token;
  if (table == nullptr) return {};
  const auto n_used = static_cast<size_t>(table->ne[0]);
  return host_values<int32_t>(table).subspan(static_cast<size_t>(token) * n_used, n_used);
}

Status Decoder::check_experts_of_tokens(const std::string& model) const {
  for (const int layer : expert_layers_) {
    if (layer >= shape().n_layer_by_token) break;
    for (int32_t token = 0; token < shape().n_vocab; ++token) {
      const std::span<const int32_t> experts = experts_of(layer, token);
      for (size_t i = 0; i < experts.size(); ++i) {
        const bool exists = experts[i] >= 0 && experts[i] < shape().router.n_expert;
        if (exists && !std::ranges::contains(experts.first(i), experts[i])) continue;
        return fail(ErrorKind::kBadFile,
                    "{}: blk.{}.ffn_gate_tid2eid.weight gives token {} expert {}, {}; the model is damaged: "
                    "compare its files with their source",
                    model, layer, token, experts[i],
                    exists ? "twice" : odmoe::format("of {}", shape().router.n_expert));
      }
    }
  }
  return {};
}

void Decoder::read_biases() {
  for (Layer& layer : layers_) {
    if (layer.selection_bias == nullptr) continue;
    layer.bias.resize(static_cast<size_t>(layer.selection_bias->ne[0]));
    read_tensor(layer.selection_bias, 0, std::as_writable_bytes(std::span(layer.bias)));
  }
}

}  // namespace odmoe
