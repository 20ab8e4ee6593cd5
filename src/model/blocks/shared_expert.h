// What every token adds beside its routed experts: a feed-forward network, with a sigmoid gate in some
// families (Qwen2, arXiv:2407.10671).
#pragma once

#include <cstdint>
#include <string>

#include "model/blocks/ffn.h"
#include "model/weights.h"

namespace odmoe {

struct SharedExpertShape {
  int64_t n_embd = 0;
  int64_t n_ff = 0;  // of all shared experts together; 0: there are none
  bool gated = false;
  std::string suffix = "_shexp";  // blk.N.ffn_{gate,up,down}SUFFIX
  Activation activation = Activation::kSilu;
  bool ffn_gates = true;  // ModelShape::ffn_gates
};

struct SharedExpertWeights {
  FfnWeights ffn;
  ggml_tensor* gate = nullptr;  // [n_embd], blk.N.ffn_gate_inp_shexp; null: none
};

SharedExpertWeights declare_shared_expert(DenseWeights& weights, const SharedExpertShape& shape, int layer);

// x: [n_embd, n_token].  Returns [n_embd, n_token].
ggml_tensor* shared_expert(ggml_context* ctx, const SharedExpertShape& shape,
                           const SharedExpertWeights& weights, ggml_tensor* x);

}  // namespace odmoe
