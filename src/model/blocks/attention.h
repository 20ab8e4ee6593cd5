// Scaled dot-product attention over a KV cache, and grouped-query attention around it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/blocks/rope.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

// Writes a row of a tensor of the layer's state for each token: values [row, n_token].
void write_rows(const LayerInputs& inputs, int layer, size_t number, ggml_tensor* values);

// The rows that are looked at, which are not transposed, as heads that follow each other in a row: [head_dim,
// RowInputs::n_seen, n_head].
ggml_tensor* seen_heads(const LayerInputs& inputs, int layer, size_t number, int64_t head_dim,
                        int64_t n_head);

// What attention sums: heads [head_dim, n_kv, n_head], or [n_kv, head_dim, n_head].
struct SeenValues {
  ggml_tensor* heads = nullptr;
  bool transposed = false;
  bool of_keys = false;  // what each key begins with
};
// The same of rows that may be transposed.
SeenValues seen_values(const LayerInputs& inputs, int layer, size_t number, int64_t head_dim, int64_t n_head);

// From so many queries on ggml's flash attention of f16 and f32 goes over keys and values in tiles, four to
// eight times as fast as query by query (GGML_FA_TILE_Q of ggml 0.27's ggml-cpu/common.h;
// bench/attention_bench.cc); and so many are worth making a tile of.
inline constexpr int64_t kTileQueries = 64, kLeastTiledQueries = 32;

// q: [n_embd_key, n_head, n_token]; k: [n_embd_key, n_kv, n_head_kv] and v: heads of n_embd_value, of rows of
// the state; mask: f16 [n_kv, n_token].  Returns [n_embd_value, n_head, n_token], contiguous.  The softmax is
// of scale q.k, or with a cap c > 0 (Gemma 2, arXiv:2408.00118) of c tanh(scale q.k / c).  sinks: F32
// [n_head], of each head one more logit in the softmax, which has no value (arXiv:2309.17453); null: none.
//
// One token goes over transposed values by products in which the heads that share keys are columns, so that
// keys and values are read once for all of them; bf16 values are transposed for it where they are not, but
// for flash attention that is not inputs.tiled_attention.
// Several tokens, and other values that are not transposed, by flash attention when inputs.flash_attention,
// otherwise by products and a softmax.  With inputs.tiled_attention, from kLeastTiledQueries tokens on, keys
// and values that are neither f16 nor f32 are made f32 for it, and queries fewer than ggml's tile has are
// repeated until they fill one.
ggml_tensor* attend(const LayerInputs& inputs, ggml_tensor* q, ggml_tensor* k, const SeenValues& v,
                    ggml_tensor* mask, float scale, float cap = 0, ggml_tensor* sinks = nullptr);

// RMSNorm of queries and keys.
enum class QkNorm : uint8_t {
  kNone,
  kPerHead,     // of each head, with one weight for all: {head_dim}
  kEachHead,    // of each head, with its own part of the weight: {head_dim * n_head} and so on
  kAllHeads,    // of all heads together: {head_dim * n_head} and {head_dim * n_head_kv}
  kUnweighted,  // of each head, without a weight
};

// What is made of a product of the layer's input before it multiplies what attention gives, and the last
// matrix that (arXiv:2505.06708).
enum class AttentionGate : uint8_t {
  kNone,
  kSigmoid,
  kSoftplus,
  kBinarySoftplus,  // log2(1 + 2^x)
};

enum class ValuesFrom : uint8_t {
  kMatrix,  // attn_v
  kKeys,    // there is none: they are the keys before their norm and RoPE
  kCaller,  // gqa() is given them
};

// Grouped-query attention (arXiv:2305.13245), with what families add to it.
struct GqaShape {
  int64_t n_embd = 0, n_head = 0, n_head_kv = 0;
  int64_t head_dim = 0;   // of queries and keys
  int64_t value_dim = 0;  // of values
  RowKind rows;           // which positions are seen
  ValuesFrom values = ValuesFrom::kMatrix;
  bool norm_values = false;  // of each head, an RMSNorm without a weight
  bool joint_qkv = false;    // one matrix, attn_qkv: queries, then keys, then values
  // attn_q has two parts of a head, its query and as many gates, of whose sigmoid it is multiplied what
  // attention gives (arXiv:2505.06708).
  bool gated = false;
  // Gates with a matrix of their own, attn_gate: one per head, or one per value of it.
  AttentionGate gate = AttentionGate::kNone;
  int64_t gates_per_head = 1;
  bool sinks = false;        // attn_sinks.weight
  bool output_bias = false;  // attn_output.bias
  float output_scale = 1;    // of what the layer adds
  float qkv_limit = 0;       // queries, keys and values are clamped to +- this; 0: they are not
  QkNorm qk_norm = QkNorm::kNone;
  bool norm_after_rope = false;
  float norm_eps = 1e-6F;
  float kq_scale = 0;          // 1/sqrt(head_dim) in most families
  float kq_cap = 0;            // attend()
  bool scale_queries = false;  // by LayerInputs::query_scale
  RopeOptions rope;
  bool rope_factors = true;  // those that gqa() is given say something here
};

struct GqaWeights {
  ggml_tensor* q = nullptr;       // [n_embd, head_dim * n_head], twice as many rows with gates
  ggml_tensor* k = nullptr;       // [n_embd, head_dim * n_head_kv]
  ggml_tensor* v = nullptr;       // [n_embd, value_dim * n_head_kv]
  ggml_tensor* qkv = nullptr;     // instead of them: all their rows
  ggml_tensor* gate = nullptr;    // [n_embd, gates_per_head * n_head]; null: none
  ggml_tensor* sinks = nullptr;   // [n_head]; null: none
  ggml_tensor* output = nullptr;  // [value_dim * n_head, n_embd]
  ggml_tensor *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;  // null: none
  ggml_tensor* qkv_bias = nullptr;                                      // of qkv; null: none
  ggml_tensor* output_bias = nullptr;                                   // [n_embd]; null: none
  ggml_tensor *q_norm = nullptr, *k_norm = nullptr;                     // null: none
};

// blk.LAYER.attn_{q,k,v,output}.weight or attn_{qkv,output}.weight, and what else the shape has.  Biases of
// queries, keys and values are taken where there are any.
GqaWeights declare_gqa(DenseWeights& weights, const GqaShape& shape, int layer);

// What a layer remembers: keys, then values, of all heads.
std::vector<StateTensor> gqa_state(const GqaShape& shape);

// What a caller of gqa() gives it; null and empty: nothing.
struct GqaGiven {
  ggml_tensor* factors = nullptr;  // of RoPE's angles
  ggml_tensor* values = nullptr;   // [value_dim * n_head_kv, n_token], of ValuesFrom::kCaller
  // In the place of that of the rows: one for all heads, or without sinks one for each KV head.
  std::span<ggml_tensor* const> masks;
};

// x: [n_embd, n_token], already normalised.  Writes this evaluation's keys and values to the layer's state.
// Returns [n_embd, n_token].
ggml_tensor* gqa(const LayerInputs& inputs, const GqaShape& shape, const GqaWeights& weights, int layer,
                 ggml_tensor* x, const GqaGiven& given = {});

}  // namespace odmoe
