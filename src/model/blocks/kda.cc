#include "model/blocks/kda.h"

#include "model/blocks/delta_rule.h"
#include "odmoe/format.h"

namespace odmoe {

KdaWeights declare_kda(DenseWeights& weights, const KdaShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.", layer);
  const auto matrix = [&](const char* name, int64_t n_in, int64_t n_out) {
    return weights.require_matrix(prefix + name + ".weight", n_in, n_out);
  };
  const auto convolution = [&](const char* name) {
    return declare_convolution(weights, prefix + "ssm_conv1d_" + name, s.convolution());
  };
  return {.q = matrix("attn_q", s.n_embd, s.n_inner()),
          .k = matrix("attn_k", s.n_embd, s.n_inner()),
          .v = matrix("attn_v", s.n_embd, s.n_inner()),
          .q_convolution = convolution("q"),
          .k_convolution = convolution("k"),
          .v_convolution = convolution("v"),
          .f_a = matrix("ssm_f_a", s.n_embd, s.head_dim),
          .f_b = matrix("ssm_f_b", s.head_dim, s.n_inner()),
          .dt_bias = weights.require_f32(prefix + "ssm_dt.bias", {s.n_inner()}),
          .a = weights.require_f32(prefix + "ssm_a", {1, s.n_head}),
          .beta = matrix("ssm_beta", s.n_embd, s.n_head),
          .g_a = matrix("ssm_g_a", s.n_embd, s.head_dim),
          .g_b = matrix("ssm_g_b", s.head_dim, s.n_inner()),
          .norm = weights.require(prefix + "ssm_norm.weight", {s.head_dim}),
          .output = matrix("attn_output", s.n_inner(), s.n_embd)};
}

std::vector<StateTensor> kda_state(const KdaShape& s) {
  const StateTensor inputs = convolution_state(s.convolution());
  return {inputs, inputs, inputs, delta_rule_state(s.head_dim, s.n_head)};
}

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
  ggml_tensor* f = ggml_mul_mat(ctx, w.f_b, ggml_mul_mat(ctx, w.f_a, x));
  ggml_tensor* beta = ggml_sigmoid(ctx, ggml_mul_mat(ctx, w.beta, x));
  ggml_tensor* out =
      delta_rule(inputs,
                 {.q = mixed(w.q, w.q_convolution, 0),
                  .k = mixed(w.k, w.k_convolution, 1),
                  .v = mixed(w.v, w.v_convolution, 2),
                  .g = ggml_mul(ctx, heads(ggml_softplus(ctx, ggml_add(ctx, f, w.dt_bias))), w.a),
                  .beta = ggml_reshape_3d(ctx, beta, 1, s.n_head, n_token)},
                 KeyHeads::kRemainder, s.norm_eps, layer, 3);
  ggml_tensor* gate = ggml_sigmoid(ctx, ggml_mul_mat(ctx, w.g_b, ggml_mul_mat(ctx, w.g_a, x)));
  out = ggml_mul(ctx, norm(ctx, out, w.norm, s.norm_eps), heads(gate));
  return ggml_mul_mat(ctx, w.output, ggml_reshape_2d(ctx, out, s.n_inner(), n_token));
}

}  // namespace odmoe
