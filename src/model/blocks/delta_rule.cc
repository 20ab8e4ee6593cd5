#include "model/blocks/delta_rule.h"

namespace odmoe {

StateTensor delta_rule_state(int64_t d, int64_t n_head) { return StateTensor::overwritten(d * d * n_head); }

ggml_tensor* delta_rule(const LayerInputs& inputs, const DeltaRuleInputs& in, KeyHeads key_heads, float eps,
                        int layer, size_t number) {
  ggml_context* ctx = inputs.context;
  const int64_t d = in.v->ne[0];
  const int64_t n_head = in.v->ne[1];
  const int64_t n_head_key = in.k->ne[1];
  const int64_t n_token = inputs.n_token;
  // The operation itself takes the remainder.
  const auto normed = [&](ggml_tensor* x) {
    x = ggml_l2_norm(ctx, x, eps);
    if (key_heads == KeyHeads::kRemainder || n_head == n_head_key) return x;
    x = ggml_reshape_4d(ctx, x, d, 1, n_head_key, n_token);
    x = ggml_repeat_4d(ctx, x, d, n_head / n_head_key, n_head_key, n_token);
    return ggml_reshape_3d(ctx, x, d, n_head, n_token);
  };
  ggml_tensor* state = ggml_reshape_4d(ctx, inputs.state->before(layer, number), d, d, n_head, 1);
  ggml_tensor* out =
      ggml_gated_delta_net(ctx, normed(in.q), normed(in.k), in.v, in.g, in.beta, state, /*K=*/1);
  const int64_t n_out = d * n_head * n_token;
  overwrite(inputs, layer, number, ggml_view_1d(ctx, out, d * d * n_head, ggml_row_size(out->type, n_out)));
  return ggml_reshape_3d(ctx, ggml_view_1d(ctx, out, n_out, 0), d, n_head, n_token);
}

}  // namespace odmoe
