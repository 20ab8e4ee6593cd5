#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "backend/tensor_memory.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// The first n columns of a persistent matrix.
ggml_tensor* columns(ggml_context* ctx, ggml_tensor* matrix, int64_t n, int64_t first = 0) {
  return ggml_view_2d(ctx, matrix, matrix->ne[0], n, matrix->nb[1],
                      matrix->nb[1] * static_cast<size_t>(first));
}

// Makes an operation write its result into a persistent matrix, from a column on: no node has to copy it
// there.  The result must be a tensor of its own, no view of another.
ggml_tensor* write_to(ggml_tensor* matrix, ggml_tensor* result, int64_t first = 0) {
  GGML_ASSERT(result->type == matrix->type && result->ne[0] == matrix->ne[0] &&
              first + result->ne[1] <= matrix->ne[1]);
  place_within(matrix, result, matrix->nb[1] * static_cast<size_t>(first));
  return result;
}

}  // namespace

Result<std::unique_ptr<Decoder>> Decoder::create(Account& account, DenseWeights& weights,
                                                 const MakeArchitecture& make) {
  std::unique_ptr<Decoder> decoder(new Decoder);
  ODMOE_ASSIGN_OR_RETURN(decoder->architecture_, make(account));
  const ModelShape& shape = decoder->shape();
  const int64_t n_embd = shape.n_embd;
  decoder->token_embd_ = weights.require("token_embd.weight", {n_embd, shape.n_vocab});
  decoder->output_norm_ = weights.require("output_norm.weight", {n_embd});
  decoder->output_ = weights.optional_matrix("output.weight", n_embd, shape.n_vocab);
  if (decoder->output_ == nullptr) decoder->output_ = decoder->token_embd_;
  decoder->layers_.resize(static_cast<size_t>(shape.n_layer));
  for (int i = 0; i < shape.n_layer; ++i) {
    Layer& layer = decoder->layers_[static_cast<size_t>(i)];
    layer.attn_norm = weights.require(odmoe::format("blk.{}.attn_norm.weight", i), {n_embd});
    layer.ffn_norm = weights.require(odmoe::format("blk.{}.ffn_norm.weight", i), {n_embd});
    if (shape.has_experts(i)) {
      decoder->expert_layers_.push_back(i);
      layer.router =
          weights.require(odmoe::format("blk.{}.ffn_gate_inp.weight", i), {n_embd, shape.router.n_expert});
      if (shape.selection_bias) {
        layer.router_bias =
            weights.optional(odmoe::format("blk.{}.exp_probs_b.bias", i), {shape.router.n_expert});
      }
      for (const char* part : {"gate", "up", "gate_up", "down"}) {
        account.use_tensor(odmoe::format("blk.{}.ffn_{}_exps.weight", i, part));
      }
    } else {
      layer.ffn = declare_ffn(weights, i, "", n_embd, shape.n_ff);
    }
    decoder->architecture_->declare(weights, i);
    ODMOE_RETURN_IF_ERROR(weights.status());
  }
  return decoder;
}

StateLayout Decoder::state_layout() const {
  StateLayout layout;
  for (int layer = 0; layer < shape().n_layer; ++layer) layout.push_back(architecture_->state(layer));
  return layout;
}

int Decoder::max_segment_nodes(int segment) const {
  // A layer of any family has fewer than 64 nodes (MLA with YaRN, the most, about 45), a sum of experts two
  // per rank.  ggml asserts when a graph is too small, so a family that needs more shows at once.
  constexpr int kLayerNodes = 64;
  const int first = segment == 0 ? 0 : expert_layers_[static_cast<size_t>(segment - 1)] + 1;
  const bool last = static_cast<size_t>(segment) == expert_layers_.size();
  const int end = last ? shape().n_layer : expert_layers_[static_cast<size_t>(segment)] + 1;
  return kLayerNodes * (end - first + 1) + 4 * shape().router.n_expert_used;
}

ggml_tensor* Decoder::sum_experts(ggml_context* ctx, const Activations& a, int64_t n_token) const {
  const int64_t n_used = shape().router.n_expert_used;
  // In place: the outputs are not needed afterwards, and a second copy would be the largest of all buffers.
  ggml_tensor* weighted = ggml_mul_inplace(ctx, columns(ctx, a.expert_output, n_used * n_token),
                                           columns(ctx, a.expert_weight, n_used * n_token));
  // In rank order, so that the sum does not depend on which expert arrived first.
  const auto rank = [&](int64_t r) {
    return ggml_view_2d(ctx, weighted, shape().n_embd, n_token, weighted->nb[1] * static_cast<size_t>(n_used),
                        weighted->nb[1] * static_cast<size_t>(r));
  };
  ggml_tensor* sum = rank(0);
  for (int64_t r = 1; r < n_used; ++r) sum = ggml_add(ctx, sum, rank(r));
  if (a.shared_output != nullptr) sum = ggml_add(ctx, sum, columns(ctx, a.shared_output, n_token));
  return ggml_add(ctx, columns(ctx, a.residual, n_token), sum);
}

void Decoder::build_segment(const LayerInputs& inputs, const Activations& a, int segment) const {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const float eps = shape().norm_eps;
  ggml_tensor* state = nullptr;
  int layer = 0;
  if (segment == 0) {
    state = ggml_get_rows(ctx, token_embd_, ggml_view_1d(ctx, a.tokens, n_token, 0));
  } else {
    layer = expert_layers_[static_cast<size_t>(segment - 1)] + 1;
    state = sum_experts(ctx, a, n_token);
  }
  // Every graph ends with the state where the next one looks for it.
  ggml_build_forward_expand(inputs.graph, write_to(a.layer_input, state));
  for (; layer < shape().n_layer; ++layer) {
    const Layer& w = layers_[static_cast<size_t>(layer)];
    ggml_tensor* attention = architecture_->attention(inputs, layer, norm(ctx, state, w.attn_norm, eps));
    ggml_tensor* residual = write_to(a.residual, ggml_add(ctx, state, attention));
    ggml_build_forward_expand(inputs.graph, residual);
    ggml_tensor* x = norm(ctx, residual, w.ffn_norm, eps);
    if (shape().has_experts(layer)) {
      ggml_tensor* logits = ggml_mul_mat(ctx, w.router, write_to(a.ffn_input, x));
      ggml_build_forward_expand(inputs.graph, write_to(a.router_logits, logits));
      return;
    }
    state = write_to(a.layer_input, ggml_add(ctx, residual, ffn(ctx, w.ffn, x)));
    ggml_build_forward_expand(inputs.graph, state);
  }
}

void Decoder::build_shared_expert(ggml_context* ctx, ggml_cgraph* graph, const Activations& a, int layer,
                                  int64_t n_token) const {
  ggml_tensor* x = columns(ctx, a.ffn_input, n_token);
  ggml_tensor* y = architecture_->shared_expert(ctx, layer, x);
  ggml_build_forward_expand(graph, write_to(a.shared_output, y));
}

ggml_tensor* Decoder::router(size_t target) const {
  return layers_[static_cast<size_t>(expert_layers_[target])].router;
}

void Decoder::build_stale_gate(ggml_context* ctx, ggml_cgraph* graph, ggml_tensor* residual, size_t target,
                               ggml_tensor* router, ggml_tensor* logits, int64_t column) const {
  const Layer& later = layers_[static_cast<size_t>(expert_layers_[target])];
  ggml_tensor* x = norm(ctx, residual, later.ffn_norm, shape().norm_eps);
  ggml_build_forward_expand(graph, write_to(logits, ggml_mul_mat(ctx, router, x), column));
}

void Decoder::build_head(ggml_context* ctx, ggml_cgraph* graph, const Activations& a, int64_t first,
                         int64_t n, ggml_tensor* logits) const {
  ggml_tensor* x = norm(ctx, columns(ctx, a.layer_input, n, first), output_norm_, shape().norm_eps);
  ggml_build_forward_expand(graph, write_to(logits, ggml_mul_mat(ctx, output_, x)));
}

void Decoder::embedding(int32_t token, std::span<float> values) const {
  const uint64_t offset = static_cast<uint64_t>(token) * token_embd_->nb[1];
  if (token_embd_->type == GGML_TYPE_F32)
    return read_tensor(token_embd_, offset, std::as_writable_bytes(values));
  constexpr size_t kPiece = 2048;  // a multiple of every type's block
  std::array<std::byte, kPiece * sizeof(float)> piece;
  for (size_t done = 0; done < values.size(); done += kPiece) {
    const std::span some = values.subspan(done, std::min(kPiece, values.size() - done));
    const auto bytes = std::span(piece).first(ggml_row_size(token_embd_->type, std::ssize(some)));
    read_tensor(token_embd_, offset + ggml_row_size(token_embd_->type, static_cast<int64_t>(done)), bytes);
    ggml_get_type_traits(token_embd_->type)->to_float(bytes.data(), some.data(), std::ssize(some));
  }
}

void Decoder::read_biases() {
  for (Layer& layer : layers_) {
    if (layer.router_bias == nullptr) continue;
    layer.bias.resize(static_cast<size_t>(layer.router_bias->ne[0]));
    read_tensor(layer.router_bias, 0, std::as_writable_bytes(std::span(layer.bias)));
  }
}

}  // namespace odmoe
