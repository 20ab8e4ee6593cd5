#include "model/blocks/mla.h"

#include <cmath>

#include "model/blocks/attention.h"
#include "odmoe/format.h"

namespace odmoe {

float mla_softmax_scale(int64_t head_dim, float log_multiplier, RopeOptions& rope) {
  const float log_factor = std::log(1.0F / rope.freq_scale);
  const float yarn_magnitude = 1.0F + 0.1F * log_factor;
  float magnitude = rope.attn_factor;
  if (rope.yarn() && log_multiplier != 0) {
    rope.attn_factor /= yarn_magnitude;
  } else {
    magnitude *= yarn_magnitude;
  }
  magnitude *= 1.0F + log_multiplier * log_factor;
  return magnitude * magnitude * (1.0F / std::sqrt(static_cast<float>(head_dim)));
}

MlaWeights declare_mla(DenseWeights& weights, const MlaShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.attn_", layer);
  const int64_t n_q = (s.nope_dim + s.rope_dim) * s.n_head;
  MlaWeights w;
  if (s.q_lora_rank > 0) {
    w.q_a = weights.require_matrix(prefix + "q_a.weight", s.n_embd, s.q_lora_rank);
    w.q_a_norm = weights.require(prefix + "q_a_norm.weight", {s.q_lora_rank});
    w.q_b = weights.require_matrix(prefix + "q_b.weight", s.q_lora_rank, n_q);
  } else {
    w.q = weights.require_matrix(prefix + "q.weight", s.n_embd, n_q);
  }
  w.kv_a = weights.require_matrix(prefix + "kv_a_mqa.weight", s.n_embd, s.cache_row());
  w.kv_a_norm = weights.require(prefix + "kv_a_norm.weight", {s.kv_lora_rank});
  if (s.gates_per_head > 0) {
    w.gate = weights.require_matrix(prefix + "gate.weight", s.n_embd, s.gates_per_head * s.n_head);
  }
  if (s.sinks) w.sinks = weights.require_f32(prefix + "sinks.weight", {s.n_head});
  if (s.norms_rope_key) w.k_norm = weights.require(prefix + "k_norm.weight", {s.rope_dim});
  w.output = weights.require_matrix(prefix + "output.weight", s.n_head * s.value_dim, s.n_embd);

  const int64_t head_rows = s.nope_dim + s.value_dim;
  w.kv_b = weights.optional(prefix + "kv_b.weight", {s.kv_lora_rank, s.n_head * head_rows});
  if (w.kv_b != nullptr) {
    for (const char* part : {"k_b.weight", "v_b.weight"}) {
      weights.pass_over(prefix + part, "attn_kv_b, which is there too, holds the same");
    }
  }
  if (w.kv_b == nullptr) {
    w.k_b = weights.require(prefix + "k_b.weight", {s.nope_dim, s.kv_lora_rank, s.n_head});
    w.v_b = weights.require(prefix + "v_b.weight", {s.kv_lora_rank, s.value_dim, s.n_head});
    return w;
  }
  const auto transpose = [s, head_rows](std::span<const float> kv_b, std::span<float> k_b) {
    for (int64_t head = 0; head < s.n_head; ++head) {
      for (int64_t n = 0; n < s.nope_dim; ++n) {
        const size_t row = static_cast<size_t>((head * head_rows + n) * s.kv_lora_rank);
        for (int64_t c = 0; c < s.kv_lora_rank; ++c) {
          k_b[static_cast<size_t>((head * s.kv_lora_rank + c) * s.nope_dim + n)] =
              kv_b[row + static_cast<size_t>(c)];
        }
      }
    }
  };
  w.k_b =
      weights.derive(prefix + "k_b (from kv_b)", {s.nope_dim, s.kv_lora_rank, s.n_head}, w.kv_b, transpose);
  return w;
}

StateTensor mla_state(const MlaShape& s) { return StateTensor::rows(s.cache_row(), {.window = s.window}); }

ggml_tensor* mla_query(ggml_context* ctx, const MlaShape& s, const MlaWeights& w, ggml_tensor* x) {
  return norm(ctx, ggml_mul_mat(ctx, w.q_a, x), w.q_a_norm, s.norm_eps);
}

ggml_tensor* mla(const LayerInputs& inputs, const MlaShape& s, const MlaWeights& w, int layer, ggml_tensor* x,
                 const MlaGiven& given) {
  ggml_context* ctx = inputs.context;
  const int64_t head_dim = s.nope_dim + s.rope_dim;

  ggml_tensor* q = nullptr;
  if (w.q != nullptr) {
    q = ggml_mul_mat(ctx, w.q, x);
  } else {
    q = ggml_mul_mat(ctx, w.q_b, given.query != nullptr ? given.query : mla_query(ctx, s, w, x));
  }
  const size_t q_head = ggml_row_size(q->type, head_dim);
  ggml_tensor* q_nope = ggml_view_3d(ctx, q, s.nope_dim, s.n_head, inputs.n_token, q_head, q->nb[1], 0);
  ggml_tensor* kv = ggml_mul_mat(ctx, w.kv_a, x);  // [kv_lora_rank | rope_dim, n_token]
  ggml_tensor* compressed = ggml_view_2d(ctx, kv, s.kv_lora_rank, inputs.n_token, kv->nb[1], 0);
  compressed = norm(ctx, compressed, w.kv_a_norm, s.norm_eps);
  const bool has_positions = s.rope_dim > 0;
  ggml_tensor *q_pe = nullptr, *k_pe = nullptr;
  if (has_positions) {
    q_pe = ggml_view_3d(ctx, q, s.rope_dim, s.n_head, inputs.n_token, q_head, q->nb[1],
                        ggml_row_size(q->type, s.nope_dim));
    k_pe = ggml_view_3d(ctx, kv, s.rope_dim, 1, inputs.n_token, kv->nb[1], kv->nb[1],
                        ggml_row_size(kv->type, s.kv_lora_rank));
    q_pe = rope(ctx, q_pe, inputs.positions, s.rope);
    if (w.k_norm != nullptr) k_pe = norm(ctx, k_pe, w.k_norm, s.norm_eps);
    k_pe = rope(ctx, k_pe, inputs.positions, s.rope);
  }

  // [nope, n_token, n_head] -> [kv_lora_rank, n_token, n_head] -> [kv_lora_rank, n_head, n_token]
  ggml_tensor* absorbed = ggml_mul_mat(ctx, w.k_b, ggml_permute(ctx, q_nope, 0, 2, 1, 3));
  absorbed = ggml_permute(ctx, absorbed, 0, 2, 1, 3);
  ggml_tensor* query =  // [cache_row, n_head, n_token]
      has_positions ? ggml_concat(ctx, absorbed, q_pe, 0) : absorbed;
  if (s.temperature.scale != 0) query = ggml_mul(ctx, query, inputs.query_scale);
  ggml_tensor* row = compressed;
  if (has_positions) {
    row = ggml_concat(ctx, row, ggml_view_2d(ctx, k_pe, s.rope_dim, inputs.n_token, k_pe->nb[2], 0), 0);
  }

  write_rows(inputs, layer, 0, row);
  const RowInputs& rows = inputs.rows(layer, 0);
  ggml_tensor* cache = inputs.state->rows(layer, 0);
  const auto view = [&](int64_t values) {
    return ggml_view_3d(ctx, cache, values, rows.n_seen, 1, cache->nb[1],
                        cache->nb[1] * static_cast<size_t>(rows.n_seen), 0);
  };
  ggml_tensor* mask = given.mask != nullptr ? given.mask : rows.mask;
  ggml_tensor* out = attend(inputs, query, view(s.cache_row()),
                            {.heads = view(s.kv_lora_rank), .of_keys = true}, mask, s.kq_scale,
                            /*cap=*/0, w.sinks);

  ggml_tensor* v_b = w.v_b;
  if (v_b == nullptr) {
    const size_t head_bytes = w.kv_b->nb[1] * static_cast<size_t>(s.nope_dim + s.value_dim);
    v_b = ggml_view_3d(ctx, w.kv_b, s.kv_lora_rank, s.value_dim, s.n_head, w.kv_b->nb[1], head_bytes,
                       w.kv_b->nb[1] * static_cast<size_t>(s.nope_dim));
  }
  out = ggml_mul_mat(ctx, v_b, ggml_permute(ctx, out, 0, 2, 1, 3));  // [value_dim, n_token, n_head]
  out = ggml_cont(ctx, ggml_permute(ctx, out, 0, 2, 1, 3));          // [value_dim, n_head, n_token]
  if (w.gate != nullptr) {
    ggml_tensor* gate = ggml_sigmoid(ctx, ggml_mul_mat(ctx, w.gate, x));
    out = ggml_mul(ctx, out, ggml_reshape_3d(ctx, gate, s.gates_per_head, s.n_head, inputs.n_token));
  }
  out = ggml_reshape_2d(ctx, out, s.value_dim * s.n_head, inputs.n_token);
  return ggml_mul_mat(ctx, w.output, out);
}

}  // namespace odmoe
