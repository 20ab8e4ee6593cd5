#include "model/blocks/pooled_indexer.h"

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
  return pooled_state(s.indexer.head_dim, s.indexer.head_dim,
                      {.tokens_per_row = s.pool, .made_from = s.pool});
}

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
  return mask_of_pools(ctx, s.pool, pools.mask, chosen, mask);
}

}  // namespace odmoe
