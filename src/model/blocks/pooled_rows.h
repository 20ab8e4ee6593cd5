// Rows of blocks that are made from the rows of several tokens: of each channel the sum of the tokens'
// values, weighted by a softmax over their scores (the compressors of DeepSeek-V4 and the pools of GLM-5.3's
// indexer).
#pragma once

#include <cstdint>

#include "model/graph.h"

namespace odmoe {

// What the blocks that this evaluation writes are made from, of a tensor that has a row for each token:
// [row, made_from, n_written].  `number` is that of the tensor, `blocks` of one of the blocks' rows.
ggml_tensor* rows_of_blocks(const LayerInputs& inputs, int layer, size_t number, size_t blocks);

// values, scores: [n, m, n_block]; mask: f32 [m, n_block], 0 or -infinity.  Returns [n, n_block].
ggml_tensor* pooled(ggml_context* ctx, ggml_tensor* values, ggml_tensor* scores, ggml_tensor* mask);

}  // namespace odmoe
