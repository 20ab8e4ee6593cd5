#include "model/blocks/adjugate_experts.h"

#include <cmath>
#include <string>

#include "model/blocks/activation.h"
#include "model/blocks/rank_sum.h"
#include "model/blocks/router.h"
#include "odmoe/format.h"

namespace odmoe {

AdjugateWeights declare_adjugate(DenseWeights& weights, const AdjugateShape& s, int layer) {
  const auto name = [&](const char* part) {
    return odmoe::format("blk.{}.ffn_{}_chexps.weight", layer, part);
  };
  return {.gate = weights.require(name("gate"), {s.n_embd, s.n_ff, s.n_adjugate()}),
          .up = weights.require(name("up"), {s.n_embd, s.n_ff, s.n_adjugate()}),
          .down = weights.require(name("down"), {s.n_ff, s.n_embd, s.n_adjugate()})};
}

ggml_tensor* add_adjugate(ggml_context* ctx, const AdjugateShape& s, const AdjugateWeights& w,
                          ggml_tensor* sum, ggml_tensor* router_logits) {
  const int64_t n_token = sum->ne[1];
  // [n_used, n_token]; of a number and a fraction the conversion keeps the number.
  ggml_tensor* chosen = ggml_cont(ctx, ggml_argsort_top_k(ctx, router_logits, s.n_used));
  ggml_tensor* group =
      ggml_scale(ctx, ggml_cast(ctx, chosen, GGML_TYPE_F32), 1.0F / static_cast<float>(s.group_size));
  ggml_tensor* ids = ggml_cast(ctx, group, GGML_TYPE_I32);

  ggml_tensor* probabilities =
      ggml_reshape_3d(ctx, ggml_soft_max(ctx, router_logits), 1, s.n_expert, n_token);
  ggml_tensor* weights = ggml_reshape_2d(ctx, ggml_get_rows(ctx, probabilities, ids), s.n_used, n_token);
  ggml_tensor* total = ggml_clamp(ctx, ggml_sum_rows(ctx, weights), kMinWeightSum, INFINITY);
  weights = ggml_div(ctx, weights, total);

  ggml_tensor* x = ggml_reshape_3d(ctx, sum, s.n_embd, 1, n_token);
  ggml_tensor* hidden =
      gated(ctx, Glu{}, ggml_mul_mat_id(ctx, w.gate, x, ids), ggml_mul_mat_id(ctx, w.up, x, ids));
  ggml_tensor* y = ggml_mul_mat_id(ctx, w.down, hidden, ids);  // [n_embd, n_used, n_token]
  y = ggml_mul(ctx, y, ggml_reshape_3d(ctx, weights, 1, s.n_used, n_token));
  ggml_tensor* added = sum_ranks(ctx, y);
  return ggml_add(ctx, sum, ggml_scale(ctx, s.n_used == 1 ? ggml_cont(ctx, added) : added, s.scale));
}

}  // namespace odmoe
