#include "model/blocks/attention.h"

#include <cmath>

#include "odmoe/format.h"

namespace odmoe {

void write_rows(const LayerInputs& inputs, int layer, size_t number, ggml_tensor* values) {
  ggml_build_forward_expand(inputs.graph, ggml_set_rows(inputs.context, inputs.state->rows(layer, number),
                                                        values, inputs.rows(layer, number).written));
}

ggml_tensor* seen_heads(const LayerInputs& inputs, int layer, size_t number, int64_t head_dim,
                        int64_t n_head) {
  ggml_tensor* rows = inputs.state->rows(layer, number);
  return ggml_view_3d(inputs.context, rows, head_dim, inputs.rows(layer, number).n_seen, n_head, rows->nb[1],
                      ggml_row_size(rows->type, head_dim), 0);
}

ggml_tensor* attend(const LayerInputs& inputs, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                    ggml_tensor* mask, float scale) {
  ggml_context* ctx = inputs.context;
  q = ggml_permute(ctx, q, 0, 2, 1, 3);  // [key, n_token, n_head]
  if (inputs.flash_attention) {
    ggml_tensor* out = ggml_flash_attn_ext(ctx, q, k, v, mask, scale, 0.0F, 0.0F);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    return out;  // [value, n_head, n_token]
  }
  ggml_tensor* scores = ggml_mul_mat(ctx, k, q);  // [n_kv, n_token, n_head]
  ggml_prec_set_acc(scores, GGML_PREC_F32);
  scores = ggml_soft_max_ext(ctx, scores, mask, scale, 0.0F);
  // The product contracts the first dimension of both, so values are turned: [n_kv, value, n_head_kv].
  if (ggml_is_quantized(v->type)) v = ggml_cast(ctx, v, GGML_TYPE_F32);
  ggml_tensor* turned = ggml_cont(ctx, ggml_permute(ctx, v, 1, 0, 2, 3));
  ggml_tensor* out = ggml_mul_mat(ctx, turned, scores);  // [value, n_token, n_head]
  return ggml_cont(ctx, ggml_permute(ctx, out, 0, 2, 1, 3));
}

GqaWeights declare_gqa(DenseWeights& weights, const GqaShape& shape, int layer, bool with_norms) {
  const std::string prefix = odmoe::format("blk.{}.attn_", layer);
  const int64_t n_q = shape.head_dim * shape.n_head;
  const int64_t n_kv = shape.head_dim * shape.n_head_kv;
  GqaWeights w;
  w.q = weights.require_matrix(prefix + "q.weight", shape.n_embd, n_q);
  w.k = weights.require_matrix(prefix + "k.weight", shape.n_embd, n_kv);
  w.v = weights.require_matrix(prefix + "v.weight", shape.n_embd, n_kv);
  w.output = weights.require_matrix(prefix + "output.weight", n_q, shape.n_embd);
  w.q_bias = weights.optional(prefix + "q.bias", {n_q});
  w.k_bias = weights.optional(prefix + "k.bias", {n_kv});
  w.v_bias = weights.optional(prefix + "v.bias", {n_kv});
  if (with_norms) {
    w.q_norm = weights.require(prefix + "q_norm.weight", {shape.head_dim});
    w.k_norm = weights.require(prefix + "k_norm.weight", {shape.head_dim});
  }
  return w;
}

std::vector<StateTensor> gqa_state(const GqaShape& shape) {
  const StateTensor rows = StateTensor::rows(shape.head_dim * shape.n_head_kv);
  return {rows, rows};
}

ggml_tensor* gqa(const LayerInputs& inputs, const GqaShape& shape, const GqaWeights& w, int layer,
                 ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const auto project = [&](ggml_tensor* weight, ggml_tensor* bias) {
    ggml_tensor* y = ggml_mul_mat(ctx, weight, x);
    return bias != nullptr ? ggml_add(ctx, y, bias) : y;
  };
  ggml_tensor* q = ggml_reshape_3d(ctx, project(w.q, w.q_bias), shape.head_dim, shape.n_head, inputs.n_token);
  ggml_tensor* k =
      ggml_reshape_3d(ctx, project(w.k, w.k_bias), shape.head_dim, shape.n_head_kv, inputs.n_token);
  ggml_tensor* v = project(w.v, w.v_bias);
  if (w.q_norm != nullptr) {
    q = norm(ctx, q, w.q_norm, shape.norm_eps);
    k = norm(ctx, k, w.k_norm, shape.norm_eps);
  }
  q = rope(ctx, q, inputs.positions, shape.rope);
  k = rope(ctx, k, inputs.positions, shape.rope);

  const int64_t row = shape.head_dim * shape.n_head_kv;
  write_rows(inputs, layer, 0, ggml_reshape_2d(ctx, k, row, inputs.n_token));
  write_rows(inputs, layer, 1, v);
  k = seen_heads(inputs, layer, 0, shape.head_dim, shape.n_head_kv);
  v = seen_heads(inputs, layer, 1, shape.head_dim, shape.n_head_kv);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  ggml_tensor* out = attend(inputs, q, k, v, inputs.rows(layer, 0).mask, scale);
  return ggml_mul_mat(ctx, w.output,
                      ggml_reshape_2d(ctx, out, shape.head_dim * shape.n_head, inputs.n_token));
}

}  // namespace odmoe
