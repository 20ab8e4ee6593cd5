// Divisors of RoPE's angles, one for each pair of dimensions.
#pragma once

#include <cstdint>

#include "model/weights.h"

namespace odmoe {

enum class RopeFactorKind {
  kNone,
  kOfModel,    // rope_freqs.weight, where the file has it: how Llama 3 was made for longer contexts
  kByContext,  // rope_factors_{short,long}.weight: LongRoPE (arXiv:2402.13753), by how long the context may
               // be
};

// F32 [n_rot / 2]; null: none.
struct RopeFactors {
  ggml_tensor* of_model = nullptr;
  ggml_tensor *within = nullptr, *beyond = nullptr;
  int64_t n_ctx_orig = 0;  // contexts of up to so many tokens are within

  // For a KV cache of so many rows, as in llama.cpp: the longest context, not the tokens that there are.
  ggml_tensor* at(int64_t rows) const {
    if (within == nullptr) return of_model;
    return rows > n_ctx_orig ? beyond : within;
  }
};

RopeFactors declare_rope_factors(DenseWeights& weights, RopeFactorKind kind, int64_t n_rot,
                                 int64_t n_ctx_orig);

}  // namespace odmoe
