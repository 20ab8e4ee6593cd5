// Blocks of keys that a small indexer chooses (MiniMax-M3): a block scores the largest product of a query of
// the indexer with the keys of its tokens that are visible; the last blocks stay whatever they score, and of
// all the top_k best are attended to.  The indexer has a query head for each KV head, and one key.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/rope.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct BlockChoiceShape {
  int64_t n_embd = 0;
  int64_t n_head = 0, head_dim = 0;
  int64_t block = 0;  // tokens; divides RowGroup::kSeenPadding
  int64_t top_k = 0;  // blocks, the last ones included
  int64_t last = 0;   // that stay; at most top_k
  float norm_eps = 1e-6F;
  RopeOptions rope;
};

struct BlockChoiceWeights {
  ggml_tensor *q = nullptr, *q_norm = nullptr;  // [n_embd, head_dim * n_head], [head_dim]
  ggml_tensor *k = nullptr, *k_norm = nullptr;  // [n_embd, head_dim], [head_dim]
};

// blk.LAYER.indexer.{q_proj,k_proj,q_norm,k_norm}.
BlockChoiceWeights declare_block_choice(DenseWeights& weights, const BlockChoiceShape& shape, int layer);

// What it remembers: a key for each token.
StateTensor block_choice_state(const BlockChoiceShape& shape);

// x: [n_embd, n_token], already normalised.  `number` is that of block_choice_state() among the layer's
// tensors; its keys are written.  Returns for each head what of the rows' mask stays, f16 [n_seen, n_token];
// empty when all does.
std::vector<ggml_tensor*> masks_by_blocks(const LayerInputs& inputs, const BlockChoiceShape& shape,
                                          const BlockChoiceWeights& weights, int layer, size_t number,
                                          ggml_tensor* x);

}  // namespace odmoe
