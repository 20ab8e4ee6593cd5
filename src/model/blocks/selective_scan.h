// The selective state space model of Mamba (arXiv:2312.00752) and Mamba-2 (arXiv:2405.21060): for each
// channel x of a head a state h, zero before the first token, of which for each token
//   dt' = softplus(dt);  h = exp(dt' a) h + dt' x b;  y = c . h + d x
#pragma once

#include <cstdint>

#include "model/graph.h"

namespace odmoe {

struct SelectiveScanInputs {
  ggml_tensor* x = nullptr;   // [head_dim, n_head, n_token]
  ggml_tensor* dt = nullptr;  // [n_head, n_token], contiguous
  ggml_tensor* a =
      nullptr;  // [1, n_head] (Mamba-2), or for each value of the state [d_state, n_head], head_dim 1
  ggml_tensor *b = nullptr,
              *c = nullptr;  // [d_state, n_group, n_token]; a group serves n_head / n_group heads
  ggml_tensor* d = nullptr;  // n_head values; null: 0
};

// What it remembers: h.
StateTensor selective_scan_state(int64_t d_state, int64_t n_channel);

// `number` is that of selective_scan_state() among the layer's tensors.  Returns y, [head_dim, n_head,
// n_token], contiguous.
ggml_tensor* selective_scan(const LayerInputs& inputs, const SelectiveScanInputs& in, int layer,
                            size_t number);

}  // namespace odmoe
