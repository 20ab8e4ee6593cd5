// The gated short convolution of LFM2 in the place of attention: of [b | c | x] = in_proj x it is c *
// convolution(b * x), then out_proj.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/convolution.h"

namespace odmoe {

struct ShortConvolutionShape {
  int64_t n_embd = 0;
  int64_t n_tap = 0;
  ConvolutionShape convolution() const { return {.n_tap = n_tap, .n_channel = n_embd}; }
};

struct ShortConvolutionWeights {
  ggml_tensor* in = nullptr;  // [n_embd, 3 n_embd]
  ConvolutionWeights convolution;
  ggml_tensor* out = nullptr;  // [n_embd, n_embd]
};

// blk.LAYER.shortconv.{in_proj,conv,out_proj}.
ShortConvolutionWeights declare_short_convolution(DenseWeights& weights, const ShortConvolutionShape& shape,
                                                  int layer);

std::vector<StateTensor> short_convolution_state(const ShortConvolutionShape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* short_convolution(const LayerInputs& inputs, const ShortConvolutionShape& shape,
                               const ShortConvolutionWeights& weights, int layer, ggml_tensor* x);

}  // namespace odmoe
