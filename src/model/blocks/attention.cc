#include "model/blocks/attention.h"

#include <cassert>

#include "model/blocks/soft_cap.h"
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
                    ggml_tensor* mask, float scale, float cap) {
  ggml_context* ctx = inputs.context;
  q = ggml_permute(ctx, q, 0, 2, 1, 3);  // [key, n_token, n_head]
  if (inputs.flash_attention) {
    ggml_tensor* out = ggml_flash_attn_ext(ctx, q, k, v, mask, scale, 0.0F, cap);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    return out;  // [value, n_head, n_token]
  }
  ggml_tensor* scores = ggml_mul_mat(ctx, k, q);  // [n_kv, n_token, n_head]
  ggml_prec_set_acc(scores, GGML_PREC_F32);
  if (cap > 0) {
    scores = soft_cap(ctx, scores, cap, scale);
    scale = 1;
  }
  scores = ggml_soft_max_ext(ctx, scores, mask, scale, 0.0F);
  // The product contracts the first dimension of both, so values are turned: [n_kv, value, n_head_kv].
  if (ggml_is_quantized(v->type)) v = ggml_cast(ctx, v, GGML_TYPE_F32);
  ggml_tensor* turned = ggml_cont(ctx, ggml_permute(ctx, v, 1, 0, 2, 3));
  ggml_tensor* out = ggml_mul_mat(ctx, turned, scores);  // [value, n_token, n_head]
  return ggml_cont(ctx, ggml_permute(ctx, out, 0, 2, 1, 3));
}

GqaWeights declare_gqa(DenseWeights& weights, const GqaShape& shape, int layer) {
  // A norm of all heads, or no RoPE, wants tensors of their own.
  assert(!shape.joint_qkv || (shape.qk_norm != QkNorm::kAllHeads && shape.rope.n_rot > 0 && !shape.gated));
  assert(!shape.gated || shape.qk_norm != QkNorm::kAllHeads);
  const std::string prefix = odmoe::format("blk.{}.attn_", layer);
  const int64_t n_q = shape.head_dim * shape.n_head;
  const int64_t n_kv = shape.head_dim * shape.n_head_kv;
  GqaWeights w;
  if (shape.joint_qkv) {
    w.qkv = weights.require_matrix(prefix + "qkv.weight", shape.n_embd, n_q + 2 * n_kv);
    w.qkv_bias = weights.optional(prefix + "qkv.bias", {n_q + 2 * n_kv});
  } else {
    w.q = weights.require_matrix(prefix + "q.weight", shape.n_embd, shape.gated ? 2 * n_q : n_q);
    w.k = weights.require_matrix(prefix + "k.weight", shape.n_embd, n_kv);
    w.v = weights.require_matrix(prefix + "v.weight", shape.n_embd, n_kv);
  }
  w.output = weights.require_matrix(prefix + "output.weight", n_q, shape.n_embd);
  if (!shape.joint_qkv) {
    w.q_bias = weights.optional(prefix + "q.bias", {shape.gated ? 2 * n_q : n_q});
    w.k_bias = weights.optional(prefix + "k.bias", {n_kv});
    w.v_bias = weights.optional(prefix + "v.bias", {n_kv});
  }
  if (shape.output_bias) w.output_bias = weights.require(prefix + "output.bias", {shape.n_embd});
  if (shape.qk_norm != QkNorm::kNone) {
    const bool per_head = shape.qk_norm == QkNorm::kPerHead;
    w.q_norm = weights.require(prefix + "q_norm.weight", {per_head ? shape.head_dim : n_q});
    w.k_norm = weights.require(prefix + "k_norm.weight", {per_head ? shape.head_dim : n_kv});
  }
  return w;
}

namespace {

// Queries, their gates and keys [head_dim, heads, n_token], values [head_dim * n_head_kv, n_token].
struct Qkv {
  ggml_tensor *q = nullptr, *k = nullptr, *v = nullptr;
  ggml_tensor* gate = nullptr;  // null: none
};

// A weight's product with x, its bias and the limit.
ggml_tensor* project(ggml_context* ctx, const GqaShape& shape, ggml_tensor* weight, ggml_tensor* bias,
                     ggml_tensor* x) {
  ggml_tensor* y = ggml_mul_mat(ctx, weight, x);
  if (bias != nullptr) y = ggml_add(ctx, y, bias);
  return shape.qkv_limit > 0 ? ggml_clamp(ctx, y, -shape.qkv_limit, shape.qkv_limit) : y;
}

Qkv project_qkv(ggml_context* ctx, const GqaShape& shape, const GqaWeights& w, ggml_tensor* x) {
  const int64_t n_token = x->ne[1];
  if (w.qkv != nullptr) {
    ggml_tensor* qkv = project(ctx, shape, w.qkv, w.qkv_bias, x);
    const size_t head = ggml_row_size(qkv->type, shape.head_dim);
    const auto heads = [&](int64_t first, int64_t n) {
      return ggml_view_3d(ctx, qkv, shape.head_dim, n, n_token, head, qkv->nb[1],
                          head * static_cast<size_t>(first));
    };
    return {.q = heads(0, shape.n_head),
            .k = heads(shape.n_head, shape.n_head_kv),
            .v = ggml_view_2d(ctx, qkv, shape.head_dim * shape.n_head_kv, n_token, qkv->nb[1],
                              head * static_cast<size_t>(shape.n_head + shape.n_head_kv)),
            .gate = nullptr};
  }
  ggml_tensor* q = project(ctx, shape, w.q, w.q_bias, x);
  ggml_tensor* k = project(ctx, shape, w.k, w.k_bias, x);
  if (shape.qk_norm == QkNorm::kAllHeads) {
    q = norm(ctx, q, w.q_norm, shape.norm_eps);
    k = norm(ctx, k, w.k_norm, shape.norm_eps);
  }
  ggml_tensor* gate = nullptr;
  if (shape.gated) {
    const size_t part = ggml_row_size(q->type, shape.head_dim);
    const auto parts = [&](size_t offset) {
      return ggml_view_3d(ctx, q, shape.head_dim, shape.n_head, n_token, 2 * part, q->nb[1], offset);
    };
    gate = parts(part);
    q = parts(0);
  } else {
    q = ggml_reshape_3d(ctx, q, shape.head_dim, shape.n_head, n_token);
  }
  return {.q = q,
          .k = ggml_reshape_3d(ctx, k, shape.head_dim, shape.n_head_kv, n_token),
          .v = project(ctx, shape, w.v, w.v_bias, x),
          .gate = gate};
}

}  // namespace

std::vector<StateTensor> gqa_state(const GqaShape& shape) {
  const StateTensor rows = StateTensor::rows(shape.head_dim * shape.n_head_kv);
  return {rows, rows};
}

ggml_tensor* gqa(const LayerInputs& inputs, const GqaShape& shape, const GqaWeights& w, int layer,
                 ggml_tensor* x, ggml_tensor* factors) {
  ggml_context* ctx = inputs.context;
  auto [q, k, v, gate] = project_qkv(ctx, shape, w, x);
  const auto norm_heads = [&] {
    if (shape.qk_norm != QkNorm::kPerHead) return;
    q = norm(ctx, q, w.q_norm, shape.norm_eps);
    k = norm(ctx, k, w.k_norm, shape.norm_eps);
  };
  if (!shape.norm_after_rope) norm_heads();
  q = rope(ctx, q, inputs.positions, shape.rope, factors);
  k = rope(ctx, k, inputs.positions, shape.rope, factors);
  if (shape.norm_after_rope) norm_heads();

  const int64_t row = shape.head_dim * shape.n_head_kv;
  write_rows(inputs, layer, 0, ggml_reshape_2d(ctx, k, row, inputs.n_token));
  write_rows(inputs, layer, 1, v);
  k = seen_heads(inputs, layer, 0, shape.head_dim, shape.n_head_kv);
  v = seen_heads(inputs, layer, 1, shape.head_dim, shape.n_head_kv);
  ggml_tensor* out = attend(inputs, q, k, v, inputs.rows(layer, 0).mask, shape.kq_scale, shape.kq_cap);
  if (gate != nullptr) out = ggml_mul(ctx, out, ggml_sigmoid(ctx, ggml_cont(ctx, gate)));
  out = ggml_mul_mat(ctx, w.output, ggml_reshape_2d(ctx, out, shape.head_dim * shape.n_head, inputs.n_token));
  return w.output_bias == nullptr ? out : ggml_add(ctx, out, w.output_bias);
}

}  // namespace odmoe
