#include "model/blocks/lightning_indexer.h"

#include <cmath>
#include <string>

#include "model/blocks/attention.h"
#include "odmoe/format.h"

namespace odmoe {

IndexerWeights declare_indexer_queries(DenseWeights& weights, const IndexerShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.indexer.", layer);
  return {.q_b = weights.require_matrix(prefix + "attn_q_b.weight", s.q_lora_rank, s.head_dim * s.n_head),
          .k_norm = {},
          .proj = weights.require_matrix(prefix + "proj.weight", s.n_embd, s.n_head)};
}

IndexerWeights declare_indexer(DenseWeights& weights, const IndexerShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.indexer.", layer);
  IndexerWeights w = declare_indexer_queries(weights, s, layer);
  w.k = weights.require_matrix(prefix + "attn_k.weight", s.n_embd, s.head_dim);
  w.k_norm = declare_norm(weights, prefix + "k_norm", s.head_dim, /*with_bias=*/true);
  return w;
}

StateTensor indexer_state(const IndexerShape& shape) { return StateTensor::rows(shape.head_dim); }

ggml_tensor* score_rows(const LayerInputs& inputs, const IndexerShape& s, const IndexerWeights& w,
                        ggml_tensor* x, ggml_tensor* query, ggml_tensor* keys, ggml_tensor* mask) {
  ggml_context* ctx = inputs.context;
  ggml_tensor* q = ggml_mul_mat(ctx, w.q_b, query);
  q = rope(ctx, ggml_reshape_3d(ctx, q, s.head_dim, s.n_head, inputs.n_token), inputs.positions, s.rope);
  ggml_tensor* heads = ggml_scale(ctx, ggml_mul_mat(ctx, w.proj, x),
                                  1.0F / std::sqrt(static_cast<float>(s.head_dim * s.n_head)));
  ggml_tensor* rows =
      ggml_view_3d(ctx, keys, s.head_dim, 1, mask->ne[0], keys->nb[1], keys->nb[1], /*offset=*/0);
  return ggml_lightning_indexer(ctx, q, rows, heads, mask);
}

ggml_tensor* choose_rows(const LayerInputs& inputs, const IndexerShape& s, const IndexerWeights& w, int layer,
                         size_t number, ggml_tensor* x, ggml_tensor* query) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  ggml_tensor* k = norm(ctx, ggml_mul_mat(ctx, w.k, x), w.k_norm, NormKind::kLayer, s.norm_eps);
  k = rope(ctx, ggml_reshape_3d(ctx, k, s.head_dim, 1, n_token), inputs.positions, s.rope);
  write_rows(inputs, layer, number, ggml_reshape_2d(ctx, k, s.head_dim, n_token));
  const RowInputs& rows = inputs.rows(layer, number);
  if (rows.n_seen <= s.top_k) return nullptr;
  ggml_tensor* keys = inputs.state->rows(layer, number);
  return ggml_top_k(ctx, score_rows(inputs, s, w, x, query, keys, rows.mask), static_cast<int>(s.top_k));
}

}  // namespace odmoe
