// A layer of Mamba (arXiv:2312.00752) with Jamba's norms (arXiv:2403.19887): of [x | z] = ssm_in x the first
// goes through a convolution, which also gives the scan's dt, b and c; the scan, gated by z, and ssm_out.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/convolution.h"

namespace odmoe {

struct Mamba1Shape {
  int64_t n_embd = 0;
  int64_t n_inner = 0;  // channels
  int64_t dt_rank = 0;
  int64_t d_state = 0;  // of a channel
  int64_t n_tap = 0;    // of the convolution
  float norm_eps = 1e-6F;

  ConvolutionShape convolution() const { return {.n_tap = n_tap, .n_channel = n_inner, .bias = true}; }
};

struct Mamba1Weights {
  ggml_tensor* in = nullptr;  // [n_embd, 2 n_inner]
  ConvolutionWeights convolution;
  ggml_tensor* dt_b_c = nullptr;  // [n_inner, dt_rank + 2 d_state], ssm_x
  ggml_tensor *dt_norm = nullptr, *b_norm = nullptr, *c_norm = nullptr;  // [dt_rank], [d_state]
  ggml_tensor* dt = nullptr;                                             // [dt_rank, n_inner]
  ggml_tensor* dt_bias = nullptr;                                        // [n_inner]
  ggml_tensor* a = nullptr;                                              // [d_state, n_inner], -exp(A_log)
  ggml_tensor* d = nullptr;                                              // [n_inner]
  ggml_tensor* output = nullptr;                                         // [n_inner, n_embd]
};

// blk.LAYER.ssm_*.
Mamba1Weights declare_mamba1(DenseWeights& weights, const Mamba1Shape& shape, int layer);

std::vector<StateTensor> mamba1_state(const Mamba1Shape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* mamba1(const LayerInputs& inputs, const Mamba1Shape& shape, const Mamba1Weights& weights,
                    int layer, ggml_tensor* x);

}  // namespace odmoe
