#include "model/blocks/pooled_indexer.h"

#include <algorithm>
#include <string>

#include "model/blocks/attention.h"
#include "model/blocks/pooled_rows.h"
#include "odmoe/format.h"

namespace odmoe {

PooledIndexerWeights declare_pooled_indexer(DenseWeights& weights, const PooledIndexerShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.indexer_compressor_", layer);
  return {.indexer = declare_indexer(weights, s.indexer, layer),
          .gate = weights.require_matrix(prefix + "gate.weight", s.indexer.n_embd, s.indexer.head_dim),
          .position = weights.require_as_f32(prefix + "ape.weight", {s.indexer.head_dim, s.pool})};
}

std::vector<StateTensor> pooled_indexer_state(const PooledIndexerShape& s) {
  const StateTensor of_token = StateTensor::rows(s.indexer.head_dim, {.window = s.pool}, GGML_TYPE_F32);
  return {StateTensor::rows(s.indexer.head_dim, {.tokens_per_row = s.pool, .made_from = s.pool}), of_token,
          of_token};
}

namespace {

// Whether a pool's tokens stay, as 0 and -infinity, f32 [n_pool, n_token]: the pool is chosen, or it is not
// complete for the token, which is where `mask` is -infinity.
ggml_tensor* pools_that_stay(ggml_context* ctx, ggml_tensor* mask, ggml_tensor* chosen) {
  const int64_t n_pool = mask->ne[0];
  const int64_t n_token = mask->ne[1];
  ggml_tensor* complete = ggml_exp(ctx, ggml_cast(ctx, mask, GGML_TYPE_F32));  // 1 or 0
  ggml_tensor* none = ggml_fill(ctx, complete, 0);
  ggml_tensor* ones =
      ggml_fill_inplace(ctx, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 1, chosen->ne[0], n_token), 1);
  ggml_tensor* some = ggml_reshape_2d(
      ctx, ggml_set_rows(ctx, ggml_reshape_3d(ctx, none, 1, n_pool, n_token), ones, chosen), n_pool, n_token);
  // 1 - complete (1 - chosen)
  ggml_tensor* left_out = ggml_mul(ctx, complete, ggml_scale_bias(ctx, some, -1, 1));
  return ggml_log(ctx, ggml_scale_bias(ctx, left_out, -1, 1));
}

}  // namespace

ggml_tensor* mask_by_pools(const LayerInputs& inputs, const PooledIndexerShape& s,
                           const PooledIndexerWeights& w, int layer, size_t number, ggml_tensor* x,
                           ggml_tensor* query, ggml_tensor* mask) {
  ggml_context* ctx = inputs.context;
  const IndexerShape& indexer = s.indexer;
  const size_t keys = number + 1;
  const size_t scores = number + 2;
  write_rows(
      inputs, layer, keys,
      norm(ctx, ggml_mul_mat(ctx, w.indexer.k, x), w.indexer.k_norm, NormKind::kLayer, indexer.norm_eps));
  write_rows(inputs, layer, scores, ggml_mul_mat(ctx, w.gate, x));
  const RowInputs& pools = inputs.rows(layer, number);
  write_rows(
      inputs, layer, number,
      pooled(ctx, rows_of_blocks(inputs, layer, keys, number),
             ggml_add(ctx, rows_of_blocks(inputs, layer, scores, number), w.position), pools.sources_mask));
  if (pools.n_seen <= indexer.top_k) return mask;

  ggml_tensor* score =
      score_rows(inputs, indexer, w.indexer, x, query, inputs.state->rows(layer, number), pools.mask);
  ggml_tensor* chosen = ggml_top_k(ctx, score, static_cast<int>(indexer.top_k));
  ggml_tensor* stay = pools_that_stay(ctx, pools.mask, chosen);
  const int64_t n_seen = mask->ne[0];
  ggml_tensor* of_tokens = ggml_repeat_4d(ctx, ggml_reshape_3d(ctx, stay, 1, pools.n_seen, inputs.n_token),
                                          s.pool, pools.n_seen, inputs.n_token, 1);
  of_tokens = ggml_reshape_2d(ctx, of_tokens, s.pool * pools.n_seen, inputs.n_token);
  if (of_tokens->ne[0] < n_seen) {  // pools that are not looked at are not complete
    of_tokens = ggml_pad(ctx, of_tokens, static_cast<int>(n_seen - of_tokens->ne[0]), 0, 0, 0);
  }
  of_tokens = ggml_view_2d(ctx, of_tokens, n_seen, inputs.n_token, of_tokens->nb[1], 0);
  return ggml_add(ctx, ggml_cast(ctx, of_tokens, GGML_TYPE_F16), mask);
}

}  // namespace odmoe
