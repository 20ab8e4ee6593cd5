// The gated feed-forward network: down(activation(gate x) * up x).
#pragma once

#include <cstdint>
#include <string>

#include "model/blocks/activation.h"
#include "model/weights.h"

namespace odmoe {

struct FfnWeights {
  ggml_tensor* gate = nullptr;  // [n_embd, n_ff]; null: up is its own gate
  ggml_tensor* up = nullptr;    // [n_embd, n_ff]
  ggml_tensor* down = nullptr;  // [n_ff, n_embd]
};

// blk.LAYER.ffn_{gate,up,down}SUFFIX.weight; suffix is "" or "_shexp".
FfnWeights declare_ffn(DenseWeights& weights, int layer, const std::string& suffix, int64_t n_embd,
                       int64_t n_ff, bool has_gate = true);

// x: [n_embd, n_token].  Returns [n_embd, n_token].
ggml_tensor* ffn(ggml_context* ctx, const FfnWeights& weights, const Glu& glu, ggml_tensor* x);

}  // namespace odmoe
