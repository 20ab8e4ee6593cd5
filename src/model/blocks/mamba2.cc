#include "model/blocks/mamba2.h"

#include "model/blocks/selective_scan.h"
#include "odmoe/format.h"

namespace odmoe {

Mamba2Weights declare_mamba2(DenseWeights& weights, const Mamba2Shape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.ssm_", layer);
  const int64_t n_in = s.n_inner + s.convolution().n_channel + s.n_head;
  return {.in = weights.require_matrix(prefix + "in.weight", s.n_embd, n_in),
          .convolution = declare_convolution(weights, prefix + "conv1d", s.convolution()),
          .dt_bias = weights.require_f32(prefix + "dt.bias", {s.n_head}),
          .a = weights.require_f32(prefix + "a", {1, s.n_head}),
          .d = weights.require_f32(prefix + "d", {1, s.n_head}),
          .norm = weights.require_f32(prefix + "norm.weight", {s.n_inner / s.n_group, s.n_group}),
          .output = weights.require_matrix(prefix + "out.weight", s.n_inner, s.n_embd)};
}

std::vector<StateTensor> mamba2_state(const Mamba2Shape& s) {
  return {convolution_state(s.convolution()), selective_scan_state(s.d_state, s.n_inner)};
}

ggml_tensor* mamba2(const LayerInputs& inputs, const Mamba2Shape& s, const Mamba2Weights& w, int layer,
                    ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const int64_t n_channel = s.convolution().n_channel;
  ggml_tensor* all = ggml_mul_mat(ctx, w.in, x);
  const auto part = [&](int64_t first, int64_t n) {
    return ggml_view_2d(ctx, all, n, n_token, all->nb[1], ggml_row_size(all->type, first));
  };
  ggml_tensor* z = part(0, s.n_inner);
  ggml_tensor* mixed =
      ggml_silu(ctx, convolution(inputs, w.convolution, layer, 0, part(s.n_inner, n_channel)));
  const auto split = [&](int64_t first, int64_t ne0, int64_t ne1) {
    return ggml_view_3d(ctx, mixed, ne0, ne1, n_token, ggml_row_size(mixed->type, ne0), mixed->nb[1],
                        ggml_row_size(mixed->type, first));
  };
  const int64_t n_state = s.n_group * s.d_state;
  ggml_tensor* y = selective_scan(inputs,
                                  {.x = split(0, s.head_dim(), s.n_head),
                                   .dt = ggml_add(ctx, part(s.n_inner + n_channel, s.n_head), w.dt_bias),
                                   .a = w.a,
                                   .b = split(s.n_inner, s.d_state, s.n_group),
                                   .c = split(s.n_inner + n_state, s.d_state, s.n_group),
                                   .d = w.d},
                                  layer, 1);
  y = ggml_swiglu_split(ctx, ggml_cont(ctx, z), ggml_reshape_2d(ctx, y, s.n_inner, n_token));
  y = norm(ctx, ggml_reshape_3d(ctx, y, s.n_inner / s.n_group, s.n_group, n_token), w.norm, s.norm_eps);
  return ggml_mul_mat(ctx, w.output, ggml_reshape_2d(ctx, y, s.n_inner, n_token));
}

}  // namespace odmoe
