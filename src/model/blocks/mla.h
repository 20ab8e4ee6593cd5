// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), absorbed: the up-projection of keys is moved
// into the query and that of values behind the attention, so that one compressed row per token is cached and
// all heads share it.
#pragma once

#include <cstdint>

#include "model/blocks/query_temperature.h"
#include "model/blocks/rope.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct MlaShape {
  int64_t n_embd = 0, n_head = 0;
  int64_t q_lora_rank = 0;   // 0: queries are projected directly (V2-Lite)
  int64_t kv_lora_rank = 0;  // compressed keys and values
  int64_t nope_dim = 0;      // query and key dimensions without RoPE, per head
  int64_t rope_dim = 0;      // with RoPE, shared by all heads in the key; 0: there are none
  int64_t value_dim = 0;     // per head
  // Of whose sigmoid the output is multiplied before its last matrix: one per head, or one per value of it
  // (Kimi-K3); 0: none.
  int64_t gates_per_head = 0;
  int64_t window = 0;           // RowKind::window
  bool sinks = false;           // attn_sinks.weight
  bool norms_rope_key = false;  // attn_k_norm.weight: an RMSNorm of the rotated part of keys, before RoPE
  float norm_eps = 1e-6F;
  float kq_scale = 0;
  RopeOptions rope;
  QueryTemperature temperature;

  int64_t cache_row() const { return kv_lora_rank + rope_dim; }
};

struct MlaWeights {
  ggml_tensor* q = nullptr;  // [n_embd, head_dim * n_head] without q_lora
  ggml_tensor *q_a = nullptr, *q_a_norm = nullptr, *q_b = nullptr;  // with it
  ggml_tensor* kv_a = nullptr;                                      // [n_embd, kv_lora_rank + rope_dim]
  ggml_tensor* kv_a_norm = nullptr;                                 // [kv_lora_rank]
  ggml_tensor* k_b = nullptr;                                       // [nope_dim, kv_lora_rank, n_head]
  ggml_tensor* v_b = nullptr;                                       // [kv_lora_rank, value_dim, n_head]
  ggml_tensor* kv_b =
      nullptr;  // [kv_lora_rank, n_head * (nope_dim + value_dim)]: older files, instead of v_b
  ggml_tensor* gate = nullptr;    // [n_embd, gates_per_head * n_head]; null: none
  ggml_tensor* sinks = nullptr;   // [n_head]; null: none
  ggml_tensor* k_norm = nullptr;  // [rope_dim]; null: none
  ggml_tensor* output = nullptr;  // [n_head * value_dim, n_embd]
};

// Softmax scale: 1/sqrt(nope + rope) times a squared magnitude, as llama.cpp has it: that of a file's
// multiplier (rope.scaling.yarn_log_multiplier, 0.1 * mscale_all_dim; 0: none) and of
// rope.scaling.attn_factor, and, but for YaRN with a multiplier, YaRN's own, with linear scaling too.  Sets
// rope.attn_factor so that YaRN's scaling of cos and sin is undone where there is a multiplier.
float mla_softmax_scale(int64_t head_dim, float log_multiplier, RopeOptions& rope);

// blk.LAYER.attn_*.  Files with a joint attn_kv_b get k_b derived from it in F32 (its rows lie the wrong way
// round for the product); v_b stays a view of kv_b as it is stored.
MlaWeights declare_mla(DenseWeights& weights, const MlaShape& shape, int layer);

// What a layer remembers: a compressed row for each token.
StateTensor mla_state(const MlaShape& shape);

// x: [n_embd, n_token], already normalised.  Queries before their last matrix, normalised, [q_lora_rank,
// n_token], of a shape that has a rank.
ggml_tensor* mla_query(ggml_context* ctx, const MlaShape& shape, const MlaWeights& weights, ggml_tensor* x);

// What a caller has made already or makes otherwise; null: mla() does.
struct MlaGiven {
  ggml_tensor* query = nullptr;  // mla_query()
  ggml_tensor* mask = nullptr;   // f16 [n_seen, n_token], in the place of that of the rows
};

// x: [n_embd, n_token], already normalised.  Writes the compressed rows to the cache.  Returns [n_embd,
// n_token].
ggml_tensor* mla(const LayerInputs& inputs, const MlaShape& shape, const MlaWeights& weights, int layer,
                 ggml_tensor* x, const MlaGiven& given = {});

}  // namespace odmoe
