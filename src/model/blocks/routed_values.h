// Mixture of value attention (K2 Horizon): what attention's values are projected with is chosen for each
// token, like experts.  All of it is always in memory.
#pragma once

#include <cstdint>

#include "model/blocks/router.h"
#include "model/weights.h"

namespace odmoe {

struct RoutedValuesShape {
  int64_t n_embd = 0;
  int64_t n_value = 0;   // of all KV heads
  RouterOptions router;  // without groups; kSoftmax or kSigmoid
};

struct RoutedValuesWeights {
  ggml_tensor* router = nullptr;          // [n_embd, n_expert]
  ggml_tensor* selection_bias = nullptr;  // [n_expert], for choosing only; null: none
  ggml_tensor* values = nullptr;          // [n_embd, n_value, n_expert]
};

// blk.LAYER.attn_v_gate.{weight,bias} and attn_v_exps.weight.
RoutedValuesWeights declare_routed_values(DenseWeights& weights, const RoutedValuesShape& shape, int layer,
                                          bool has_bias);

// x: [n_embd, n_token].  Returns the weighted sum of silu(values x), [n_value, n_token].
ggml_tensor* routed_values(ggml_context* ctx, const RoutedValuesShape& shape,
                           const RoutedValuesWeights& weights, ggml_tensor* x);

}  // namespace odmoe
