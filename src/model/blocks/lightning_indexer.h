// The lightning indexer of DeepSeek Sparse Attention (DeepSeek-V3.2-Exp, arXiv:2512.02556): small queries and
// keys of its own say which rows a token attends to.  Row p scores
//   sum over heads of relu(query . key_p) * weight / sqrt(head_dim * n_head)
// and the top_k best of those that are visible stay; with fewer all do.  DeepSeek turns queries and keys by a
// Hadamard matrix first, for FP8; that changes no product and is left out.
#pragma once

#include <cstdint>

#include "model/blocks/norm.h"
#include "model/blocks/rope.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct IndexerShape {
  int64_t n_embd = 0, q_lora_rank = 0;
  int64_t n_head = 0, head_dim = 0;
  int64_t top_k = 0;
  float norm_eps = 1e-6F;  // of the keys' LayerNorm
  RopeOptions rope;        // of the first n_rot dimensions of a head
};

struct IndexerWeights {
  ggml_tensor* q_b = nullptr;   // [q_lora_rank, head_dim * n_head]
  ggml_tensor* k = nullptr;     // [n_embd, head_dim]
  NormWeights k_norm;           // [head_dim]
  ggml_tensor* proj = nullptr;  // [n_embd, n_head]: the heads' weights
};

// blk.LAYER.indexer.{attn_q_b,attn_k,k_norm,proj}.
IndexerWeights declare_indexer(DenseWeights& weights, const IndexerShape& shape, int layer);
// Only what score_rows() takes: attn_q_b and proj.
IndexerWeights declare_indexer_queries(DenseWeights& weights, const IndexerShape& shape, int layer);

// What it remembers: a key for each token.
StateTensor indexer_state(const IndexerShape& shape);

// x: [n_embd, n_token], already normalised; query: [q_lora_rank, n_token], attention's queries before their
// last matrix (mla_query()); keys: [head_dim, n_row, ...], rows of the state; mask: f16 [n_row, n_token].
// Returns each row's score, [n_row, n_token], -infinity where the mask is.
ggml_tensor* score_rows(const LayerInputs& inputs, const IndexerShape& shape, const IndexerWeights& weights,
                        ggml_tensor* x, ggml_tensor* query, ggml_tensor* keys, ggml_tensor* mask);

// x and query as above.  `number` is that of indexer_state() among the layer's tensors; its keys are
// written.  Returns which rows stay, i32 [top_k, n_token] in any order; null when no more are looked at.
ggml_tensor* choose_rows(const LayerInputs& inputs, const IndexerShape& shape, const IndexerWeights& weights,
                         int layer, size_t number, ggml_tensor* x, ggml_tensor* query);

}  // namespace odmoe
