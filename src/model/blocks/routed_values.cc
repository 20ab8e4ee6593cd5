#include "model/blocks/routed_values.h"

#include <cassert>
#include <limits>
#include <string>

#include "model/blocks/rank_sum.h"
#include "model/blocks/router.h"
#include "odmoe/format.h"

namespace odmoe {

RoutedValuesWeights declare_routed_values(DenseWeights& weights, const RoutedValuesShape& s, int layer,
                                          bool has_bias) {
  const std::string prefix = odmoe::format("blk.{}.attn_v_", layer);
  RoutedValuesWeights w;
  w.router = weights.require(prefix + "gate.weight", {s.n_embd, s.router.n_expert});
  if (has_bias) w.selection_bias = weights.require_f32(prefix + "gate.bias", {s.router.n_expert});
  w.values = weights.require(prefix + "exps.weight", {s.n_embd, s.n_value, s.router.n_expert});
  return w;
}

ggml_tensor* routed_values(ggml_context* ctx, const RoutedValuesShape& s, const RoutedValuesWeights& w,
                           ggml_tensor* x) {
  const RouterOptions& router = s.router;
  assert(router.gating == Gating::kSoftmax || router.gating == Gating::kSigmoid);
  const int64_t n_token = x->ne[1];
  const int64_t n_used = router.n_expert_used;
  ggml_tensor* logits = ggml_mul_mat(ctx, w.router, x);
  ggml_tensor* scores =
      router.gating == Gating::kSoftmax ? ggml_soft_max(ctx, logits) : ggml_sigmoid(ctx, logits);
  ggml_tensor* selection = w.selection_bias == nullptr ? scores : ggml_add(ctx, scores, w.selection_bias);
  ggml_tensor* chosen = ggml_argsort_top_k(ctx, selection, router.n_expert_used);  // [n_used, n_token]
  ggml_tensor* weights =
      ggml_get_rows(ctx, ggml_reshape_3d(ctx, scores, 1, router.n_expert, n_token), chosen);
  if (router.normalise) {
    weights = ggml_reshape_2d(ctx, weights, n_used, n_token);
    ggml_tensor* sum =
        ggml_clamp(ctx, ggml_sum_rows(ctx, weights), kMinWeightSum, std::numeric_limits<float>::infinity());
    weights = ggml_reshape_3d(ctx, ggml_div(ctx, weights, sum), 1, n_used, n_token);
  }
  if (router.scale != 0 && router.scale != 1) weights = ggml_scale(ctx, weights, router.scale);

  ggml_tensor* values = ggml_mul_mat_id(ctx, w.values, ggml_reshape_3d(ctx, x, s.n_embd, 1, n_token), chosen);
  values = ggml_mul(ctx, ggml_silu(ctx, values), weights);  // [n_value, n_used, n_token]
  ggml_tensor* sum = sum_ranks(ctx, values);
  return n_used == 1 ? ggml_cont(ctx, sum) : sum;
}

}  // namespace odmoe
