// The lightning indexer on pools of neighbouring tokens (GLM-5.3): the keys of a pool become one, and with a
// pool that is chosen all of its tokens are.  The tokens of a pool that is not complete yet always stay.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/lightning_indexer.h"

namespace odmoe {

struct PooledIndexerShape {
  IndexerShape indexer;  // top_k: of pools
  int64_t pool = 0;      // tokens
};

struct PooledIndexerWeights {
  IndexerWeights indexer;
  ggml_tensor* gate = nullptr;      // [n_embd, head_dim]: scores of a pool's tokens, for each channel ...
  ggml_tensor* position = nullptr;  // [head_dim, pool]: ... and what is added to them by their place in it
};

// blk.LAYER.indexer.* as of declare_indexer(), and blk.LAYER.indexer_compressor_{gate,ape}.
PooledIndexerWeights declare_pooled_indexer(DenseWeights& weights, const PooledIndexerShape& shape,
                                            int layer);

// What it remembers: a key for each pool, and the keys and scores of the tokens of the last.
std::vector<StateTensor> pooled_indexer_state(const PooledIndexerShape& shape);

// x, query: as of choose_rows().  `number` is that of the first of pooled_indexer_state() among the layer's
// tensors; mask: f16 [n_seen, n_token], of rows of all tokens.  Returns what of the mask stays.
ggml_tensor* mask_by_pools(const LayerInputs& inputs, const PooledIndexerShape& shape,
                           const PooledIndexerWeights& weights, int layer, size_t number, ggml_tensor* x,
                           ggml_tensor* query, ggml_tensor* mask);

}  // namespace odmoe
