#include "model/blocks/pooled_rows.h"

#include "model/blocks/chosen_rows.h"

namespace odmoe {

std::vector<StateTensor> pooled_state(int64_t row_values, int64_t token_values, const RowKind& blocks) {
  const StateTensor of_token = StateTensor::rows(token_values, {.window = blocks.made_from}, GGML_TYPE_F32);
  return {StateTensor::rows(row_values, blocks), of_token, of_token};
}

ggml_tensor* rows_of_blocks(const LayerInputs& inputs, int layer, size_t number, size_t blocks) {
  ggml_context* ctx = inputs.context;
  ggml_tensor* sources = inputs.rows(layer, blocks).sources;
  const int64_t made_from = sources->ne[0];
  const int64_t n_block = sources->ne[1];
  ggml_tensor* rows = inputs.state->rows(layer, number);
  ggml_tensor* found = ggml_get_rows(ctx, rows, ggml_reshape_1d(ctx, sources, made_from * n_block));
  return ggml_reshape_3d(ctx, found, found->ne[0], made_from, n_block);
}

namespace {

// Whether a pool's tokens stay, as 0 and -infinity, f32 [n_pool, n_token]: the pool is chosen, or it is not
// complete for the token, which is where `mask` is -infinity.
ggml_tensor* pools_that_stay(ggml_context* ctx, ggml_tensor* mask, ggml_tensor* chosen) {
  ggml_tensor* complete = ggml_exp(ctx, ggml_cast(ctx, mask, GGML_TYPE_F32));  // 1 or 0
  ggml_tensor* some = put_chosen(ctx, ggml_fill(ctx, complete, 0), chosen, 1);
  // 1 - complete (1 - chosen)
  ggml_tensor* left_out = ggml_mul(ctx, complete, ggml_scale_bias(ctx, some, -1, 1));
  return ggml_log(ctx, ggml_scale_bias(ctx, left_out, -1, 1));
}

}  // namespace

ggml_tensor* mask_of_pools(ggml_context* ctx, int64_t pool, ggml_tensor* pools, ggml_tensor* chosen,
                           ggml_tensor* mask) {
  const int64_t n_pool = pools->ne[0];
  const int64_t n_seen = mask->ne[0];
  const int64_t n_token = mask->ne[1];
  ggml_tensor* stay = pools_that_stay(ctx, pools, chosen);
  ggml_tensor* of_tokens =
      ggml_repeat_4d(ctx, ggml_reshape_3d(ctx, stay, 1, n_pool, n_token), pool, n_pool, n_token, 1);
  of_tokens = ggml_reshape_2d(ctx, of_tokens, pool * n_pool, n_token);
  if (of_tokens->ne[0] < n_seen) {  // pools that are not looked at are not complete
    of_tokens = ggml_pad(ctx, of_tokens, static_cast<int>(n_seen - of_tokens->ne[0]), 0, 0, 0);
  }
  of_tokens = ggml_view_2d(ctx, of_tokens, n_seen, n_token, of_tokens->nb[1], 0);
  return ggml_add(ctx, ggml_cast(ctx, of_tokens, GGML_TYPE_F16), mask);
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
