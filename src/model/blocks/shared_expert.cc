#include "model/blocks/shared_expert.h"

#include "odmoe/format.h"

namespace odmoe {

SharedExpertWeights declare_shared_expert(DenseWeights& weights, const ModelShape& shape, int layer) {
  SharedExpertWeights w;
  if (shape.shared.gated) {
    w.gate = weights.require(odmoe::format("blk.{}.ffn_gate_inp_shexp.weight", layer), {shape.n_embd});
  }
  w.ffn = declare_ffn(weights, layer, std::string(shape.shared.suffix), shape.n_embd, shape.shared.n_ff,
                      shape.ffn_gates);
  return w;
}

ggml_tensor* shared_expert(ggml_context* ctx, const SharedExpertWeights& w, const Glu& glu, ggml_tensor* x) {
  if (w.gate == nullptr) return ffn(ctx, w.ffn, glu, x);
  ggml_tensor* gate = ggml_sigmoid(ctx, ggml_mul_mat(ctx, w.gate, x));  // [1, n_token]
  return ggml_mul(ctx, ffn(ctx, w.ffn, glu, x), gate);
}

}  // namespace odmoe
