#include "model/blocks/norm.h"

namespace odmoe {

NormWeights declare_norm(DenseWeights& weights, const std::string& name, int64_t n, bool with_bias) {
  return {.weight = weights.require(name + ".weight", {n}),
          .bias = with_bias ? weights.require(name + ".bias", {n}) : nullptr};
}

ggml_tensor* norm(ggml_context* ctx, ggml_tensor* x, const NormWeights& weights, NormKind kind, float eps) {
  ggml_tensor* normed = kind == NormKind::kRms ? ggml_rms_norm(ctx, x, eps) : ggml_norm(ctx, x, eps);
  ggml_tensor* y = ggml_mul(ctx, normed, weights.weight);
  return weights.bias == nullptr ? y : ggml_add(ctx, y, weights.bias);
}

}  // namespace odmoe
