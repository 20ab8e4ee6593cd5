// A causal convolution along the tokens, of each channel by itself, and the last inputs that it remembers:
// what stands before a recurrence (Mamba, arXiv:2312.00752; Gated DeltaNet, arXiv:2412.06464), and is one by
// itself in LFM2.
#pragma once

#include <cstdint>
#include <string>

#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct ConvolutionWeights {
  ggml_tensor* kernel = nullptr;  // [n_tap, n_channel] or [n_tap, 1, n_channel], the oldest tap first
  ggml_tensor* bias = nullptr;    // [n_channel]; null: none
};

struct ConvolutionShape {
  int64_t n_tap = 0, n_channel = 0;
  bool bias = false;            // there may be one
  bool has_middle_one = false;  // the file has the kernel as {n_tap, 1, n_channel}
};

// NAME.weight and NAME.bias.
ConvolutionWeights declare_convolution(DenseWeights& weights, const std::string& name,
                                       const ConvolutionShape& shape);

// What it remembers: the n_tap - 1 inputs before the next, for each channel.
StateTensor convolution_state(const ConvolutionShape& shape);

// x: [n_channel, n_token].  `number` is that of convolution_state() among the layer's tensors.  Returns
// [n_channel, n_token], contiguous: y_t = sum of kernel_j x_(t - n_tap + 1 + j), plus the bias; before the
// first token x is 0.
ggml_tensor* convolution(const LayerInputs& inputs, const ConvolutionWeights& weights, int layer,
                         size_t number, ggml_tensor* x);

}  // namespace odmoe
