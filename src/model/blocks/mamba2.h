// A layer of Mamba-2 (arXiv:2405.21060): of [z | x b c | dt] = ssm_in x the middle goes through a convolution
// and the scan, is gated by z, normalised in groups, and ssm_out.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/convolution.h"

namespace odmoe {

struct Mamba2Shape {
  int64_t n_embd = 0;
  int64_t n_inner = 0;  // channels of all heads
  int64_t n_head = 0;
  int64_t n_group = 0;
  int64_t d_state = 0;  // of a channel
  int64_t n_tap = 0;    // of the convolution
  float norm_eps = 1e-6F;

  int64_t head_dim() const { return n_inner / n_head; }
  ConvolutionShape convolution() const {
    return {.n_tap = n_tap, .n_channel = n_inner + 2 * n_group * d_state, .bias = true};
  }
};

struct Mamba2Weights {
  ggml_tensor* in = nullptr;  // [n_embd, 2 n_inner + 2 n_group d_state + n_head]
  ConvolutionWeights convolution;
  ggml_tensor* dt_bias = nullptr;          // [n_head]
  ggml_tensor *a = nullptr, *d = nullptr;  // [1, n_head], a is -exp(A_log)
  ggml_tensor* norm = nullptr;             // [n_inner / n_group, n_group]
  ggml_tensor* output = nullptr;           // [n_inner, n_embd]
};

// blk.LAYER.ssm_*.
Mamba2Weights declare_mamba2(DenseWeights& weights, const Mamba2Shape& shape, int layer);

std::vector<StateTensor> mamba2_state(const Mamba2Shape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* mamba2(const LayerInputs& inputs, const Mamba2Shape& shape, const Mamba2Weights& weights,
                    int layer, ggml_tensor* x);

}  // namespace odmoe
