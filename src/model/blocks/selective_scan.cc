#include "model/blocks/selective_scan.h"

namespace odmoe {

StateTensor selective_scan_state(int64_t d_state, int64_t n_channel) {
  return StateTensor::overwritten(d_state * n_channel);
}

ggml_tensor* selective_scan(const LayerInputs& inputs, const SelectiveScanInputs& in, int layer,
                            size_t number) {
  ggml_context* ctx = inputs.context;
  const int64_t d_state = in.b->ne[0];
  const int64_t head_dim = in.x->ne[0];
  const int64_t n_head = in.x->ne[1];
  ggml_tensor* before = inputs.state->before(layer, number);
  ggml_tensor* state = ggml_reshape_4d(ctx, before, d_state, head_dim, n_head, 1);
  // The number of the sequence whose state it is: 0, of the only one.  The position of the largest of one
  // value is a constant that every backend can compute.
  ggml_tensor* sequence = ggml_argmax(ctx, ggml_view_2d(ctx, before, 1, 1, before->nb[0], 0));
  ggml_tensor* out = ggml_ssm_scan(ctx, state, in.x, in.dt, in.a, in.b, in.c, sequence, /*K=*/1);
  const int64_t n_out = head_dim * n_head * inputs.n_token;
  overwrite(inputs, layer, number,
            ggml_view_1d(ctx, out, ggml_nelements(before), ggml_row_size(out->type, n_out)));
  ggml_tensor* y = ggml_reshape_3d(ctx, ggml_view_1d(ctx, out, n_out, 0), head_dim, n_head, inputs.n_token);
  if (in.d == nullptr) return y;
  return ggml_add(ctx, y, ggml_mul(ctx, in.x, ggml_reshape_2d(ctx, in.d, 1, n_head)));
}

}  // namespace odmoe
