// The norms of the residual stream: RMSNorm (arXiv:1910.07467) or LayerNorm (arXiv:1607.06450).
#pragma once

#include <cstdint>
#include <string>

#include "model/weights.h"

namespace odmoe {

enum class NormKind { kRms, kLayer };

struct NormWeights {
  ggml_tensor* weight = nullptr;  // [n]; null: there is no such norm
  ggml_tensor* bias = nullptr;    // [n]; null: none
};

// NAME.weight, and NAME.bias where the family's norms have biases.
NormWeights declare_norm(DenseWeights& weights, const std::string& name, int64_t n, bool with_bias);

// x: [n, n_token].  The norm, times the weight, plus the bias.  With groups the norm is of each n / groups
// values of their own (K2 Horizon).
ggml_tensor* norm(ggml_context* ctx, ggml_tensor* x, const NormWeights& weights, NormKind kind, float eps,
                  int64_t groups = 1);

}  // namespace odmoe
