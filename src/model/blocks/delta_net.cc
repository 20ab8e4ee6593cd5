#include "model/blocks/delta_net.h"

#include "odmoe/format.h"

namespace odmoe {

DeltaNetWeights declare_delta_net(DenseWeights& weights, const DeltaNetShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.", layer);
  DeltaNetWeights w;
  w.joint = weights.optional_matrix(prefix + "ssm_in.weight", s.n_embd, 2 * (s.n_key() + s.n_value()));
  if (w.joint == nullptr) {
    w.qkv = weights.require_matrix(prefix + "attn_qkv.weight", s.n_embd, 2 * s.n_key() + s.n_value());
    w.z = weights.require_matrix(prefix + "attn_gate.weight", s.n_embd, s.n_value());
  }
  if (s.joint_beta_alpha) {
    w.ba = weights.require_matrix(prefix + "ssm_ba.weight", s.n_embd, 2 * s.n_head);
  } else {
    w.beta = weights.require_matrix(prefix + "ssm_beta.weight", s.n_embd, s.n_head);
    w.alpha = weights.require_matrix(prefix + "ssm_alpha.weight", s.n_embd, s.n_head);
  }
  w.convolution = declare_convolution(weights, prefix + "ssm_conv1d", s.convolution());
  w.dt_bias = weights.require_f32(prefix + "ssm_dt.bias", {s.n_head});
  w.a = weights.require_f32(prefix + "ssm_a", {s.n_head});
  w.norm = weights.require(prefix + "ssm_norm.weight", {s.head_dim});
  w.output = weights.require_matrix(prefix + "ssm_out.weight", s.n_value(), s.n_embd);
  return w;
}

std::vector<StateTensor> delta_net_state(const DeltaNetShape& s) {
  return {convolution_state(s.convolution()), delta_rule_state(s.head_dim, s.n_head)};
}

namespace {

// Values [first, first + n) of each of n_group equal parts of the rows of x, side by side: [n * n_group,
// n_token].
ggml_tensor* gather(ggml_context* ctx, ggml_tensor* x, int64_t n_group, int64_t first, int64_t n) {
  const int64_t n_token = x->ne[1];
  if (n_group == 1 && first == 0 && n == x->ne[0]) return x;
  ggml_tensor* parts = ggml_view_3d(ctx, x, n, n_group, n_token, ggml_row_size(x->type, x->ne[0] / n_group),
                                    x->nb[1], ggml_row_size(x->type, first));
  return ggml_cont_2d(ctx, parts, n * n_group, n_token);
}

struct Projected {
  ggml_tensor* qkv = nullptr;                     // [2 n_key + n_value, n_token]
  ggml_tensor* z = nullptr;                       // [n_value, n_token]
  ggml_tensor *beta = nullptr, *alpha = nullptr;  // [n_head, n_token], contiguous
};

Projected project(ggml_context* ctx, const DeltaNetShape& s, const DeltaNetWeights& w, ggml_tensor* x) {
  Projected p;
  if (w.joint != nullptr) {
    const int64_t d = s.head_dim;
    const int64_t value = s.n_value() / s.n_head_key;  // of one key head
    ggml_tensor* all = ggml_mul_mat(ctx, w.joint, x);
    const auto part = [&](int64_t first, int64_t n) { return gather(ctx, all, s.n_head_key, first, n); };
    p.qkv = ggml_concat(ctx, ggml_concat(ctx, part(0, d), part(d, d), 0), part(2 * d, value), 0);
    p.z = part(2 * d + value, value);
  } else {
    p.qkv = ggml_mul_mat(ctx, w.qkv, x);
    p.z = ggml_mul_mat(ctx, w.z, x);
  }
  if (w.ba != nullptr) {
    const int64_t n = s.n_head / s.n_head_key;
    ggml_tensor* ba = ggml_mul_mat(ctx, w.ba, x);
    p.beta = gather(ctx, ba, s.n_head_key, 0, n);
    p.alpha = gather(ctx, ba, s.n_head_key, n, n);
  } else {
    p.beta = ggml_mul_mat(ctx, w.beta, x);
    p.alpha = ggml_mul_mat(ctx, w.alpha, x);
  }
  return p;
}

}  // namespace

ggml_tensor* delta_net(const LayerInputs& inputs, const DeltaNetShape& s, const DeltaNetWeights& w, int layer,
                       ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const Projected p = project(ctx, s, w, x);
  ggml_tensor* mixed = ggml_silu(ctx, convolution(inputs, w.convolution, layer, 0, p.qkv));
  const auto heads = [&](int64_t n_head, int64_t first) {
    return ggml_view_3d(ctx, mixed, s.head_dim, n_head, n_token, ggml_row_size(mixed->type, s.head_dim),
                        mixed->nb[1], ggml_row_size(mixed->type, first));
  };
  ggml_tensor* g = ggml_mul(ctx, ggml_softplus(ctx, ggml_add(ctx, p.alpha, w.dt_bias)), w.a);
  ggml_tensor* out =
      delta_rule(inputs,
                 {.q = heads(s.n_head_key, 0),
                  .k = heads(s.n_head_key, s.n_key()),
                  .v = heads(s.n_head, 2 * s.n_key()),
                  .g = ggml_reshape_3d(ctx, g, 1, s.n_head, n_token),
                  .beta = ggml_reshape_3d(ctx, ggml_sigmoid(ctx, p.beta), 1, s.n_head, n_token)},
                 s.key_heads, s.norm_eps, layer, 1);
  ggml_tensor* z = ggml_reshape_3d(ctx, p.z, s.head_dim, s.n_head, n_token);
  ggml_tensor* gate = s.gate == DeltaNetGate::kSilu ? ggml_silu(ctx, z) : ggml_sigmoid(ctx, z);
  out = ggml_mul(ctx, norm(ctx, out, w.norm, s.norm_eps), gate);
  return ggml_mul_mat(ctx, w.output, ggml_reshape_2d(ctx, out, s.n_value(), n_token));
}

}  // namespace odmoe
