#include "model/blocks/ffn.h"

#include "odmoe/format.h"

namespace odmoe {

FfnWeights declare_ffn(DenseWeights& weights, int layer, const std::string& suffix, int64_t n_embd,
                       int64_t n_ff, bool has_gate) {
  const auto name = [&](const char* part) {
    return odmoe::format("blk.{}.ffn_{}{}.weight", layer, part, suffix);
  };
  return {.gate = has_gate ? weights.require_matrix(name("gate"), n_embd, n_ff) : nullptr,
          .up = weights.require_matrix(name("up"), n_embd, n_ff),
          .down = weights.require_matrix(name("down"), n_ff, n_embd)};
}

ggml_tensor* ffn(ggml_context* ctx, const FfnWeights& w, const Glu& glu, ggml_tensor* x) {
  ggml_tensor* up = ggml_mul_mat(ctx, w.up, x);
  ggml_tensor* gate = w.gate == nullptr ? up : ggml_mul_mat(ctx, w.gate, x);
  ggml_tensor* hidden = gated(ctx, glu, gate, up);
  return ggml_mul_mat(ctx, w.down, hidden);
}

}  // namespace odmoe
