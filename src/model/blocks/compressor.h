// Compressed keys (DeepSeek-V4): a block of `ratio` tokens has one row, which is made from projections of its
// tokens, pooled by scores that have a part of their own for each place in the block; an RMSNorm, and RoPE at
// the block's first position.  Overlapping blocks are made from twice as many tokens: the projections have
// two halves, of which a block takes the first from the tokens of the block before it and the second from its
// own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/blocks/rope.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct CompressorShape {
  int64_t n_embd = 0;
  int64_t head_dim = 0;  // of a row
  int64_t ratio = 0;
  bool overlapping = false;
  float norm_eps = 1e-6F;
  RopeOptions rope;

  int64_t width() const { return overlapping ? 2 * head_dim : head_dim; }
  int64_t made_from() const { return overlapping ? 2 * ratio : ratio; }
};

struct CompressorWeights {
  ggml_tensor *kv = nullptr, *gate = nullptr;  // [n_embd, width]
  ggml_tensor* position = nullptr;             // [width, ratio]
  ggml_tensor* norm = nullptr;                 // [head_dim]
};

// blk.LAYER.NAME_compressor_{kv,gate,ape,norm}.
CompressorWeights declare_compressor(DenseWeights& weights, const CompressorShape& shape, int layer,
                                     const std::string& name);

// What it remembers: rows of blocks, and the projections and scores of the tokens that the next are made
// from.
std::vector<StateTensor> compressor_state(const CompressorShape& shape);

// x: [n_embd, n_token], already normalised.  Writes the rows of the blocks that have tokens here; `number` is
// that of the first of compressor_state() among the layer's tensors.
void write_compressed(const LayerInputs& inputs, const CompressorShape& shape,
                      const CompressorWeights& weights, int layer, size_t number, ggml_tensor* x);

}  // namespace odmoe
