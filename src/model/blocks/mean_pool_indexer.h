// An indexer on pools of neighbouring tokens whose keys are means (Qwen3.8-Flash-Next): a pool that is
// complete scores the sum over heads of relu(query . key), and the tokens of the best stay, together with
// those of the pool that is not complete yet.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/rope.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct MeanPoolIndexerShape {
  int64_t n_embd = 0;
  int64_t n_head = 0, head_dim = 0;
  int64_t pool = 0;   // tokens
  int64_t top_k = 0;  // pools
  float norm_eps = 1e-6F;
  RopeOptions rope;  // of a pool's key by its first token's position
};

struct MeanPoolIndexerWeights {
  ggml_tensor *q = nullptr, *q_norm = nullptr;  // [n_embd, head_dim * n_head], [head_dim]
  ggml_tensor *k = nullptr, *k_norm = nullptr;  // [n_embd, head_dim], [head_dim]
};

// blk.LAYER.indexer.{q_proj,k_proj,q_norm,k_norm}.
MeanPoolIndexerWeights declare_mean_pool_indexer(DenseWeights& weights, const MeanPoolIndexerShape& shape,
                                                 int layer);

// What it remembers: a key for each pool, and the tokens' of the last, of which it is the mean.
std::vector<StateTensor> mean_pool_indexer_state(const MeanPoolIndexerShape& shape);

// x: [n_embd, n_token], already normalised.  `number` is that of the first of mean_pool_indexer_state() among
// the layer's tensors, which are written; mask: f16 [n_seen, n_token], of rows of all tokens.  Returns what
// of the mask stays.
ggml_tensor* mask_by_mean_pools(const LayerInputs& inputs, const MeanPoolIndexerShape& shape,
                                const MeanPoolIndexerWeights& weights, int layer, size_t number,
                                ggml_tensor* x, ggml_tensor* mask);

}  // namespace odmoe
