// Rows of blocks that are made from the rows of several tokens: of each channel the sum of the tokens'
// values, weighted by a softmax over their scores (the compressors of DeepSeek-V4 and the pools of GLM-5.3's
// indexer), and the tokens of blocks that are chosen.
#pragma once

#include <cstdint>
#include <vector>

#include "model/graph.h"

namespace odmoe {

// What a layer remembers of it: the rows of blocks, [row_values], and of the tokens that the next ones are
// made from values and scores, [token_values] each.
std::vector<StateTensor> pooled_state(int64_t row_values, int64_t token_values, const RowKind& blocks);

// What the blocks that this evaluation writes are made from, of a tensor that has a row for each token:
// [row, made_from, n_written].  `number` is that of the tensor, `blocks` of one of the blocks' rows.
ggml_tensor* rows_of_blocks(const LayerInputs& inputs, int layer, size_t number, size_t blocks);

// Of a mask f16 [n_seen, n_token], of rows of all tokens, what of it stays where pools of so many tokens are
// chosen: their tokens, i32 [k, n_token], and those of the pool that is not complete yet.  pools: f16
// [n_pool, n_token], -infinity where a pool is not complete for the token.
ggml_tensor* mask_of_pools(ggml_context* ctx, int64_t pool, ggml_tensor* pools, ggml_tensor* chosen,
                           ggml_tensor* mask);

// values, scores: [n, m, n_block]; mask: f32 [m, n_block], 0 or -infinity.  Returns [n, n_block].
ggml_tensor* pooled(ggml_context* ctx, ggml_tensor* values, ggml_tensor* scores, ggml_tensor* mask);

}  // namespace odmoe
