#include "model/blocks/attention.h"

#include <cassert>
#include <numbers>
#include <span>

#include "model/blocks/soft_cap.h"
#include "odmoe/format.h"

namespace odmoe {

void write_rows(const LayerInputs& inputs, int layer, size_t number, ggml_tensor* values) {
  ggml_context* ctx = inputs.context;
  ggml_tensor* rows = inputs.state->rows(layer, number);
  if (inputs.state->transposed(layer, number)) {  // of each value rows of one
    rows = ggml_reshape_3d(ctx, rows, 1, rows->ne[0], rows->ne[1]);
    values = ggml_view_3d(ctx, values, 1, values->ne[1], values->ne[0], values->nb[1], values->nb[0], 0);
  }
  ggml_build_forward_expand(inputs.graph,
                            ggml_set_rows(ctx, rows, values, inputs.rows(layer, number).written));
}

ggml_tensor* seen_heads(const LayerInputs& inputs, int layer, size_t number, int64_t head_dim,
                        int64_t n_head) {
  ggml_tensor* rows = inputs.state->rows(layer, number);
  return ggml_view_3d(inputs.context, rows, head_dim, inputs.rows(layer, number).n_seen, n_head, rows->nb[1],
                      ggml_row_size(rows->type, head_dim), 0);
}

SeenValues seen_values(const LayerInputs& inputs, int layer, size_t number, int64_t head_dim,
                       int64_t n_head) {
  if (!inputs.state->transposed(layer, number)) {
    return {.heads = seen_heads(inputs, layer, number, head_dim, n_head), .transposed = false};
  }
  ggml_tensor* values = inputs.state->rows(layer, number);
  return {.heads = ggml_view_3d(inputs.context, values, inputs.rows(layer, number).n_seen, head_dim, n_head,
                                values->nb[1], values->nb[1] * static_cast<size_t>(head_dim), 0),
          .transposed = true};
}

namespace {

static_assert(2 * kLeastTiledQueries >= kTileQueries);  // what fill_tile() takes

// The other of the two ways.
ggml_tensor* transposed(ggml_context* ctx, ggml_tensor* v) {
  if (ggml_is_quantized(v->type)) v = ggml_cast(ctx, v, GGML_TYPE_F32);
  return ggml_cont(ctx, ggml_permute(ctx, v, 1, 0, 2, 3));
}

// x and, after it along `dim`, what it begins with: kTileQueries in all.
ggml_tensor* fill_tile(ggml_context* ctx, ggml_tensor* x, int dim) {
  ggml_tensor* front =
      dim == 1 ? ggml_view_2d(ctx, x, x->ne[0], kTileQueries - x->ne[1], x->nb[1], 0)
               : ggml_view_3d(ctx, x, x->ne[0], x->ne[1], kTileQueries - x->ne[2], x->nb[1], x->nb[2], 0);
  return ggml_concat(ctx, x, front, dim);
}

// Keys or values as tiles take them.
ggml_tensor* in_tiled_type(ggml_context* ctx, ggml_tensor* x) {
  return x->type == GGML_TYPE_F16 || x->type == GGML_TYPE_F32 ? x : ggml_cast(ctx, x, GGML_TYPE_F32);
}

// q: [key, n_head, n_token]; v: heads that are not transposed.  Returns [value, n_head, n_token].
ggml_tensor* flash_attend(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                          ggml_tensor* mask, float scale, float cap, ggml_tensor* sinks) {
  ggml_tensor* out = ggml_flash_attn_ext(ctx, ggml_permute(ctx, q, 0, 2, 1, 3), k, v, mask, scale, 0.0F, cap);
  ggml_prec_set_acc(out, GGML_PREC_F32);
  if (sinks != nullptr) ggml_flash_attn_ext_add_sinks(out, sinks);
  return out;
}

// q: [key, n_head, n_token], of at least kLeastTiledQueries tokens.
ggml_tensor* attend_in_tiles(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, const SeenValues& v,
                             ggml_tensor* mask, float scale, float cap, ggml_tensor* sinks) {
  const int64_t n_token = q->ne[2];
  if (n_token < kTileQueries) {
    q = fill_tile(ctx, q, 2);
    mask = fill_tile(ctx, mask, 1);
  }
  ggml_tensor* keys = in_tiled_type(ctx, k);
  ggml_tensor* values = v.transposed ? ggml_permute(ctx, v.heads, 1, 0, 2, 3) : v.heads;
  if (v.of_keys && keys != k) {  // which are there in that type already
    values =
        ggml_view_3d(ctx, keys, values->ne[0], values->ne[1], values->ne[2], keys->nb[1], keys->nb[2], 0);
  } else {
    ggml_tensor* tiled = in_tiled_type(ctx, values);
    values = v.transposed && tiled == values ? ggml_cont(ctx, values) : tiled;
  }
  ggml_tensor* out = flash_attend(ctx, q, keys, values, mask, scale, cap, sinks);
  return n_token < kTileQueries
             ? ggml_view_3d(ctx, out, out->ne[0], out->ne[1], n_token, out->nb[1], out->nb[2], 0)
             : out;
}

// scores: [n_kv, n_token, n_head], q.k, which become weights.
ggml_tensor* softmax(ggml_context* ctx, ggml_tensor* scores, ggml_tensor* mask, float scale, float cap,
                     ggml_tensor* sinks) {
  if (cap > 0) {
    scores = soft_cap(ctx, scores, cap, scale);
    scale = 1;
  }
  scores = ggml_soft_max_ext(ctx, scores, mask, scale, 0.0F);
  if (sinks != nullptr) ggml_soft_max_add_sinks(scores, sinks);
  return scores;
}

// Scores of keys and queries whose other dimensions fit each other.
ggml_tensor* score(ggml_context* ctx, ggml_tensor* k, ggml_tensor* q) {
  ggml_tensor* scores = ggml_mul_mat(ctx, k, q);
  ggml_prec_set_acc(scores, GGML_PREC_F32);
  return scores;
}

// attend() of one token; v: [n_kv, value, n_head_kv].
ggml_tensor* attend_grouped(ggml_context* ctx, ggml_tensor* q, ggml_tensor* k, ggml_tensor* v,
                            ggml_tensor* mask, float scale, float cap, ggml_tensor* sinks) {
  const int64_t n_head = q->ne[1];
  const int64_t n_head_kv = k->ne[2];
  if (!ggml_is_contiguous(q)) q = ggml_cont(ctx, q);
  q = ggml_reshape_3d(ctx, q, q->ne[0], n_head / n_head_kv, n_head_kv);
  ggml_tensor* weights = score(ctx, k, q);  // [n_kv, heads that share keys, n_head_kv]
  const int64_t n_kv = weights->ne[0];
  weights = softmax(ctx, ggml_reshape_3d(ctx, weights, n_kv, 1, n_head), mask, scale, cap, sinks);
  weights = ggml_reshape_3d(ctx, weights, n_kv, n_head / n_head_kv, n_head_kv);
  return ggml_reshape_3d(ctx, ggml_mul_mat(ctx, v, weights), v->ne[1], n_head, 1);
}

}  // namespace

ggml_tensor* attend(const LayerInputs& inputs, ggml_tensor* q, ggml_tensor* k, const SeenValues& v,
                    ggml_tensor* mask, float scale, float cap, ggml_tensor* sinks) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = q->ne[2];
  const bool tiled = inputs.flash_attention && inputs.tiled_attention;
  // Of bf16, a processor's flash attention of one token takes longer than turning all values.
  const bool turns = !v.transposed && v.heads->type == GGML_TYPE_BF16 && (tiled || !inputs.flash_attention);
  if (n_token == 1 && (v.transposed || turns)) {
    ggml_tensor* values = turns ? transposed(ctx, v.heads) : v.heads;
    return attend_grouped(ctx, q, k, values, mask, scale, cap, sinks);
  }
  if (tiled && n_token >= kLeastTiledQueries) {
    return attend_in_tiles(ctx, q, k, v, mask, scale, cap, sinks);
  }
  if (inputs.flash_attention) {
    return flash_attend(ctx, q, k, v.transposed ? transposed(ctx, v.heads) : v.heads, mask, scale, cap,
                        sinks);
  }
  q = ggml_permute(ctx, q, 0, 2, 1, 3);                                            // [key, n_token, n_head]
  ggml_tensor* weights = softmax(ctx, score(ctx, k, q), mask, scale, cap, sinks);  // [n_kv, n_token, n_head]
  // The product contracts the first dimension of both.
  ggml_tensor* values = v.transposed ? v.heads : transposed(ctx, v.heads);
  ggml_tensor* out = ggml_mul_mat(ctx, values, weights);  // [value, n_token, n_head]
  return ggml_cont(ctx, ggml_permute(ctx, out, 0, 2, 1, 3));
}

GqaWeights declare_gqa(DenseWeights& weights, const GqaShape& shape, int layer) {
  // A norm of all heads, or no RoPE, wants tensors of their own.
  assert(!shape.joint_qkv || (shape.qk_norm != QkNorm::kAllHeads && shape.rope.n_rot > 0 && !shape.gated &&
                              shape.values == ValuesFrom::kMatrix && !shape.norm_values));
  assert(!shape.gated || shape.qk_norm != QkNorm::kAllHeads);
  const std::string prefix = odmoe::format("blk.{}.attn_", layer);
  const int64_t n_q = shape.head_dim * shape.n_head;
  const int64_t n_k = shape.head_dim * shape.n_head_kv;
  const int64_t n_v = shape.value_dim * shape.n_head_kv;
  const bool has_v = shape.values == ValuesFrom::kMatrix;
  GqaWeights w;
  if (shape.joint_qkv) {
    w.qkv = weights.require_matrix(prefix + "qkv.weight", shape.n_embd, n_q + n_k + n_v);
    w.qkv_bias = weights.optional(prefix + "qkv.bias", {n_q + n_k + n_v});
  } else {
    w.q = weights.require_matrix(prefix + "q.weight", shape.n_embd, shape.gated ? 2 * n_q : n_q);
    w.k = weights.require_matrix(prefix + "k.weight", shape.n_embd, n_k);
    if (has_v) w.v = weights.require_matrix(prefix + "v.weight", shape.n_embd, n_v);
  }
  if (shape.gate != AttentionGate::kNone) {
    w.gate =
        weights.require_matrix(prefix + "gate.weight", shape.n_embd, shape.gates_per_head * shape.n_head);
  }
  if (shape.sinks) w.sinks = weights.require_f32(prefix + "sinks.weight", {shape.n_head});
  w.output = weights.require_matrix(prefix + "output.weight", shape.value_dim * shape.n_head, shape.n_embd);
  if (!shape.joint_qkv) {
    w.q_bias = weights.optional(prefix + "q.bias", {shape.gated ? 2 * n_q : n_q});
    w.k_bias = weights.optional(prefix + "k.bias", {n_k});
    if (has_v) w.v_bias = weights.optional(prefix + "v.bias", {n_v});
  }
  if (shape.output_bias) w.output_bias = weights.require(prefix + "output.bias", {shape.n_embd});
  if (shape.qk_norm != QkNorm::kNone && shape.qk_norm != QkNorm::kUnweighted) {
    const bool per_head = shape.qk_norm == QkNorm::kPerHead;
    w.q_norm = weights.require(prefix + "q_norm.weight", {per_head ? shape.head_dim : n_q});
    w.k_norm = weights.require(prefix + "k_norm.weight", {per_head ? shape.head_dim : n_k});
  }
  return w;
}

namespace {

// Queries, their gates and keys [head_dim, heads, n_token], values [value_dim * n_head_kv, n_token].
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
            .v = ggml_view_2d(ctx, qkv, shape.value_dim * shape.n_head_kv, n_token, qkv->nb[1],
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
          .v = w.v == nullptr ? k : project(ctx, shape, w.v, w.v_bias, x),
          .gate = gate};
}

// x: [head_dim, heads, n_token].
ggml_tensor* norm_heads(ggml_context* ctx, const GqaShape& shape, ggml_tensor* x, ggml_tensor* weight) {
  switch (shape.qk_norm) {
    case QkNorm::kNone:
    case QkNorm::kAllHeads:
      return x;
    case QkNorm::kPerHead:
      return norm(ctx, x, weight, shape.norm_eps);
    case QkNorm::kEachHead:
      return norm(ctx, x, ggml_reshape_2d(ctx, weight, x->ne[0], x->ne[1]), shape.norm_eps);
    case QkNorm::kUnweighted:
      return ggml_rms_norm(ctx, x, shape.norm_eps);
  }
  return nullptr;
}

ggml_tensor* open_gate(ggml_context* ctx, AttentionGate gate, ggml_tensor* x) {
  constexpr float kLn2 = std::numbers::ln2_v<float>;
  switch (gate) {
    case AttentionGate::kNone:
      return nullptr;
    case AttentionGate::kSigmoid:
      return ggml_sigmoid(ctx, x);
    case AttentionGate::kSoftplus:
      return ggml_softplus(ctx, x);
    case AttentionGate::kBinarySoftplus:
      return ggml_scale(ctx, ggml_softplus(ctx, ggml_scale(ctx, x, kLn2)), std::numbers::log2e_v<float>);
  }
  return nullptr;
}

// The same as attend(), of each KV head with a mask of its own; without sinks.
ggml_tensor* attend_by_head(const LayerInputs& inputs, const GqaShape& shape, ggml_tensor* q, ggml_tensor* k,
                            const SeenValues& v, std::span<ggml_tensor* const> masks) {
  ggml_context* ctx = inputs.context;
  const int64_t n = shape.n_head / shape.n_head_kv;
  ggml_tensor* out = nullptr;
  for (size_t head = 0; head < masks.size(); ++head) {
    ggml_tensor* of_q = ggml_view_3d(ctx, q, q->ne[0], n, q->ne[2], q->nb[1], q->nb[2],
                                     q->nb[1] * static_cast<size_t>(n) * head);
    const auto one = [&](ggml_tensor* rows) {
      return ggml_view_3d(ctx, rows, rows->ne[0], rows->ne[1], 1, rows->nb[1], rows->nb[2],
                          rows->nb[2] * head);
    };
    const SeenValues of_v{.heads = one(v.heads), .transposed = v.transposed};
    ggml_tensor* y = attend(inputs, of_q, one(k), of_v, masks[head], shape.kq_scale, shape.kq_cap);
    out = out == nullptr ? y : ggml_concat(ctx, out, y, 1);
  }
  return out;
}

}  // namespace

std::vector<StateTensor> gqa_state(const GqaShape& shape) {
  return {StateTensor::rows(shape.head_dim * shape.n_head_kv, shape.rows),
          StateTensor::summed_rows(shape.value_dim * shape.n_head_kv, shape.rows)};
}

ggml_tensor* gqa(const LayerInputs& inputs, const GqaShape& shape, const GqaWeights& w, int layer,
                 ggml_tensor* x, const GqaGiven& given) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  ggml_tensor* factors = shape.rope_factors ? given.factors : nullptr;
  auto [q, k, v, gate] = project_qkv(ctx, shape, w, x);
  if (given.values != nullptr) v = given.values;
  if (shape.norm_values) {
    v = ggml_reshape_3d(ctx, v, shape.value_dim, shape.n_head_kv, n_token);
    v = ggml_rms_norm(ctx, v, shape.norm_eps);
    v = ggml_reshape_2d(ctx, v, shape.value_dim * shape.n_head_kv, n_token);
  }
  const auto norm_both = [&] {
    q = norm_heads(ctx, shape, q, w.q_norm);
    k = norm_heads(ctx, shape, k, w.k_norm);
  };
  if (!shape.norm_after_rope) norm_both();
  q = rope(ctx, q, inputs.positions, shape.rope, factors);
  k = rope(ctx, k, inputs.positions, shape.rope, factors);
  if (shape.norm_after_rope) norm_both();
  if (shape.scale_queries) q = ggml_mul(ctx, q, inputs.query_scale);

  write_rows(inputs, layer, 0, ggml_reshape_2d(ctx, k, shape.head_dim * shape.n_head_kv, n_token));
  write_rows(inputs, layer, 1, v);
  k = seen_heads(inputs, layer, 0, shape.head_dim, shape.n_head_kv);
  const SeenValues values = seen_values(inputs, layer, 1, shape.value_dim, shape.n_head_kv);
  assert(given.masks.size() <= 1 || w.sinks == nullptr);
  ggml_tensor* mask = given.masks.empty() ? inputs.rows(layer, 0).mask : given.masks.front();
  ggml_tensor* out = given.masks.size() <= 1
                         ? attend(inputs, q, k, values, mask, shape.kq_scale, shape.kq_cap, w.sinks)
                         : attend_by_head(inputs, shape, q, k, values, given.masks);
  if (gate != nullptr) out = ggml_mul(ctx, out, ggml_sigmoid(ctx, ggml_cont(ctx, gate)));
  if (w.gate != nullptr) {
    gate = open_gate(ctx, shape.gate, ggml_mul_mat(ctx, w.gate, x));
    out = ggml_mul(ctx, out, ggml_reshape_3d(ctx, gate, shape.gates_per_head, shape.n_head, n_token));
  }
  out = ggml_mul_mat(ctx, w.output, ggml_reshape_2d(ctx, out, shape.value_dim * shape.n_head, n_token));
  if (w.output_bias != nullptr) out = ggml_add(ctx, out, w.output_bias);
  return shape.output_scale == 1 ? out : ggml_scale(ctx, out, shape.output_scale);
}

}  // namespace odmoe
