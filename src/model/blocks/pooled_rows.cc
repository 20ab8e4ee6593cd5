#include "model/blocks/pooled_rows.h"

namespace odmoe {

ggml_tensor* rows_of_blocks(const LayerInputs& inputs, int layer, size_t number, size_t blocks) {
  ggml_context* ctx = inputs.context;
  ggml_tensor* sources = inputs.rows(layer, blocks).sources;
  const int64_t made_from = sources->ne[0];
  const int64_t n_block = sources->ne[1];
  ggml_tensor* rows = inputs.state->rows(layer, number);
  ggml_tensor* found = ggml_get_rows(ctx, rows, ggml_reshape_1d(ctx, sources, made_from * n_block));
  return ggml_reshape_3d(ctx, found, found->ne[0], made_from, n_block);
}

ggml_tensor* pooled(ggml_context* ctx, ggml_tensor* values, ggml_tensor* scores, ggml_tensor* mask) {
  const int64_t n = values->ne[0];
  const int64_t m = values->ne[1];
  const int64_t n_block = values->ne[2];
  const auto turned = [ctx](ggml_tensor* x) { return ggml_cont(ctx, ggml_permute(ctx, x, 1, 0, 2, 3)); };
  ggml_tensor* weights = ggml_add(ctx, turned(scores), ggml_reshape_3d(ctx, mask, m, 1, n_block));
  ggml_tensor* products = ggml_mul(ctx, turned(values), ggml_soft_max(ctx, weights));  // [m, n, n_block]
  return ggml_reshape_2d(ctx, ggml_sum_rows(ctx, products), n, n_block);
}

}  // namespace odmoe
