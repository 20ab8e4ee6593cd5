#include "model/blocks/kda.h"

#include "model/blocks/delta_rule.h"
#include "odmoe/format.h"

namespace odmoe {

KdaWeights declare_kda(DenseWeights& weights, const KdaShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.", layer);
  const auto matrix = [&](std::string_view name, int64_t n_in, int64_t n_out) {
    return weights.require_matrix(odmoe::format("{}{}.weight", prefix, name), n_in, n_out);
  };
  const auto convolution = [&](const char* name) {
    return declare_convolution(weights, prefix + "ssm_conv1d_" + name, s.convolution());
  };
  KdaWeights w = {.q = matrix("attn_q", s.n_embd, s.n_inner()),
                  .k = matrix("attn_k", s.n_embd, s.n_inner()),
                  .v = matrix("attn_v", s.n_embd, s.n_inner()),
                  .q_convolution = convolution("q"),
                  .k_convolution = convolution("k"),
                  .v_convolution = convolution("v"),
                  .f_a = matrix("ssm_f_a", s.n_embd, s.full_rank_decay ? s.n_inner() : s.head_dim),
                  .dt_bias = weights.require_f32(prefix + "ssm_dt.bias", {s.n_inner()}),
                  .a = s.a_has_leading_one ? weights.require_f32(prefix + "ssm_a", {1, s.n_head})
                                           : weights.require_f32(prefix + "ssm_a", {s.n_head}),
                  .beta = matrix("ssm_beta", s.n_embd, s.n_head),
                  .norm = weights.require(prefix + "ssm_norm.weight", {s.head_dim}),
                  .output = matrix("attn_output", s.n_inner(), s.n_embd)};
  if (!s.full_rank_decay) w.f_b = matrix("ssm_f_b", s.head_dim, s.n_inner());
  if (s.full_rank_gate.empty()) {
    w.g_a = matrix("ssm_g_a", s.n_embd, s.head_dim);
    w.g_b = matrix("ssm_g_b", s.head_dim, s.n_inner());
  } else {
    w.g_a = matrix(s.full_rank_gate, s.n_embd, s.n_inner());
  }
  return w;
}

std::vector<StateTensor> kda_state(const KdaShape& s) {
  const StateTensor inputs = convolution_state(s.convolution());
  return {inputs, inputs, inputs, delta_rule_state(s.head_dim, s.n_head)};
}

namespace {

// values: [head_dim, n_head, n_token], f with its bias.
ggml_tensor* decay(ggml_context* ctx, const KdaShape& s, ggml_tensor* a, ggml_tensor* values) {
  if (!s.a_has_leading_one) a = ggml_reshape_2d(ctx, a, 1, s.n_head);
  if (s.gate_lower_bound == 0) return ggml_mul(ctx, ggml_softplus(ctx, values), a);
  values = ggml_mul(ctx, values, a);
  if (!s.a_is_positive) values = ggml_neg(ctx, values);
  return ggml_scale(ctx, ggml_sigmoid(ctx, values), s.gate_lower_bound);
}

}  // namespace

ggml_tensor* kda(const LayerInputs& inputs, const KdaShape& s, const KdaWeights& w, int layer,
                 ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const auto heads = [&](ggml_tensor* values) {
    return ggml_reshape_3d(ctx, values, s.head_dim, s.n_head, n_token);
  };
  const auto mixed = [&](ggml_tensor* weight, const ConvolutionWeights& kernel, size_t number) {
    return heads(ggml_silu(ctx, convolution(inputs, kernel, layer, number, ggml_mul_mat(ctx, weight, x))));
  };
  const auto projected = [&](ggml_tensor* first, ggml_tensor* second) {
    ggml_tensor* y = ggml_mul_mat(ctx, first, x);
    return second == nullptr ? y : ggml_mul_mat(ctx, second, y);
  };
  ggml_tensor* f = ggml_add(ctx, projected(w.f_a, w.f_b), w.dt_bias);
  ggml_tensor* beta = ggml_sigmoid(ctx, ggml_mul_mat(ctx, w.beta, x));
  ggml_tensor* out = delta_rule(inputs,
                                {.q = mixed(w.q, w.q_convolution, 0),
                                 .k = mixed(w.k, w.k_convolution, 1),
                                 .v = mixed(w.v, w.v_convolution, 2),
                                 .g = decay(ctx, s, w.a, heads(f)),
                                 .beta = ggml_reshape_3d(ctx, beta, 1, s.n_head, n_token)},
                                KeyHeads::kRemainder, s.norm_eps, layer, 3);
  ggml_tensor* gate = ggml_sigmoid(ctx, projected(w.g_a, w.g_b));
  out = ggml_mul(ctx, norm(ctx, out, w.norm, s.norm_eps), heads(gate));
  return ggml_mul_mat(ctx, w.output, ggml_reshape_2d(ctx, out, s.n_inner(), n_token));
}

}  // namespace odmoe
