#include "model/blocks/mean_pool_indexer.h"

#include <string>

#include "model/blocks/attention.h"
#include "model/blocks/pooled_rows.h"
#include "odmoe/format.h"

namespace odmoe {

MeanPoolIndexerWeights declare_mean_pool_indexer(DenseWeights& weights, const MeanPoolIndexerShape& s,
                                                 int layer) {
  const std::string prefix = odmoe::format("blk.{}.indexer.", layer);
  return {.q = weights.require_matrix(prefix + "q_proj.weight", s.n_embd, s.head_dim * s.n_head),
          .q_norm = weights.require(prefix + "q_norm.weight", {s.head_dim}),
          .k = weights.require_matrix(prefix + "k_proj.weight", s.n_embd, s.head_dim),
          .k_norm = weights.require(prefix + "k_norm.weight", {s.head_dim})};
}

std::vector<StateTensor> mean_pool_indexer_state(const MeanPoolIndexerShape& s) {
  return {StateTensor::rows(s.head_dim, {.tokens_per_row = s.pool, .made_from = s.pool}),
          StateTensor::rows(s.head_dim, {.window = s.pool}, GGML_TYPE_F32)};
}

namespace {

// x: [head_dim * n, m], of n heads at m positions.
ggml_tensor* normed_and_turned(ggml_context* ctx, const MeanPoolIndexerShape& s, ggml_tensor* x,
                               ggml_tensor* weight, ggml_tensor* positions) {
  x = ggml_reshape_3d(ctx, x, s.head_dim, x->ne[0] / s.head_dim, x->ne[1]);
  return rope(ctx, norm(ctx, x, weight, s.norm_eps), positions, s.rope);
}

// Of each pool the sum over heads, f32 [n_pool, n_token], -infinity where the mask is.
ggml_tensor* score_pools(const LayerInputs& inputs, const MeanPoolIndexerShape& s, ggml_tensor* queries,
                         ggml_tensor* keys, ggml_tensor* mask) {
  ggml_context* ctx = inputs.context;
  ggml_tensor* rows =
      ggml_view_3d(ctx, keys, s.head_dim, 1, mask->ne[0], keys->nb[1], keys->nb[1], /*offset=*/0);
  ggml_tensor* alike =
      ggml_fill_inplace(ctx, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, s.n_head, inputs.n_token), 1);
  return ggml_lightning_indexer(ctx, queries, rows, alike, mask);
}

}  // namespace

ggml_tensor* mask_by_mean_pools(const LayerInputs& inputs, const MeanPoolIndexerShape& s,
                                const MeanPoolIndexerWeights& w, int layer, size_t number, ggml_tensor* x,
                                ggml_tensor* mask) {
  ggml_context* ctx = inputs.context;
  const size_t keys = number + 1;
  write_rows(inputs, layer, keys, ggml_mul_mat(ctx, w.k, x));
  const RowInputs& pools = inputs.rows(layer, number);
  ggml_tensor* members = rows_of_blocks(inputs, layer, keys, number);
  // Equal scores make a mean.
  ggml_tensor* means = pooled(ctx, members, ggml_fill(ctx, members, 0), pools.sources_mask);
  ggml_tensor* written = normed_and_turned(ctx, s, means, w.k_norm, pools.first_positions);
  write_rows(inputs, layer, number, ggml_reshape_2d(ctx, written, s.head_dim, pools.n_written));
  if (pools.n_seen <= s.top_k) return mask;

  ggml_tensor* queries = normed_and_turned(ctx, s, ggml_mul_mat(ctx, w.q, x), w.q_norm, inputs.positions);
  ggml_tensor* scores = score_pools(inputs, s, queries, inputs.state->rows(layer, number), pools.mask);
  return mask_of_pools(ctx, s.pool, pools.mask, ggml_top_k(ctx, scores, static_cast<int>(s.top_k)), mask);
}

}  // namespace odmoe
