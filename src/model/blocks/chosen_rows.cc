#include "model/blocks/chosen_rows.h"

#include <cmath>

namespace odmoe {

ggml_tensor* put_chosen(ggml_context* ctx, ggml_tensor* values, ggml_tensor* chosen, float value) {
  const int64_t n = values->ne[0];
  const int64_t n_token = values->ne[1];
  ggml_tensor* put =
      ggml_fill_inplace(ctx, ggml_new_tensor_3d(ctx, GGML_TYPE_F32, 1, chosen->ne[0], n_token), value);
  return ggml_reshape_2d(ctx, ggml_set_rows(ctx, ggml_reshape_3d(ctx, values, 1, n, n_token), put, chosen), n,
                         n_token);
}

ggml_tensor* chosen_mask(ggml_context* ctx, ggml_tensor* mask, ggml_tensor* chosen) {
  if (chosen == nullptr) return mask;
  // Where fewer are visible, others were chosen too.
  return ggml_add(ctx, put_chosen(ctx, ggml_fill(ctx, mask, -INFINITY), chosen, 0), mask);
}

}  // namespace odmoe
