#include "model/blocks/norm.h"

namespace odmoe {

NormWeights declare_norm(DenseWeights& weights, const std::string& name, int64_t n, bool with_bias) {
  return {.weight = weights.require(name + ".weight", {n}),
          .bias = with_bias ? weights.require(name + ".bias", {n}) : nullptr};
}

ggml_tensor* norm(ggml_context* ctx, ggml_tensor* x, const NormWeights& weights, NormKind kind, float eps,
                  int64_t groups) {
  const int64_t n = x->ne[0];
  const int64_t n_token = x->ne[1];
  if (groups > 1) x = ggml_reshape_3d(ctx, x, n / groups, groups, n_token);
  ggml_tensor* normed = kind == NormKind::kRms ? ggml_rms_norm(ctx, x, eps) : ggml_norm(ctx, x, eps);
  if (groups > 1) normed = ggml_reshape_2d(ctx, normed, n, n_token);
  ggml_tensor* y = ggml_mul(ctx, normed, weights.weight);
  return weights.bias == nullptr ? y : ggml_add(ctx, y, weights.bias);
}

}  // namespace odmoe
