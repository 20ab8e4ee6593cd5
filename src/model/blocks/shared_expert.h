// What every token adds beside its routed experts: a feed-forward network, with a sigmoid gate in some
// families (Qwen2, arXiv:2407.10671).
#pragma once

#include "model/blocks/ffn.h"
#include "model/shape.h"
#include "model/weights.h"

namespace odmoe {

struct SharedExpertWeights {
  FfnWeights ffn;
  ggml_tensor* gate = nullptr;  // [n_embd], blk.N.ffn_gate_inp_shexp; null: none
};

// Of a model that has one: ModelShape::shared.
SharedExpertWeights declare_shared_expert(DenseWeights& weights, const ModelShape& shape, int layer);

// glu: of the layer.  x: [n_embd, n_token].  Returns [n_embd, n_token].
ggml_tensor* shared_expert(ggml_context* ctx, const SharedExpertWeights& weights, const Glu& glu,
                           ggml_tensor* x);

}  // namespace odmoe
