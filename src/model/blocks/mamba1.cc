#include "model/blocks/mamba1.h"

#include "model/blocks/selective_scan.h"
#include "odmoe/format.h"

namespace odmoe {

Mamba1Weights declare_mamba1(DenseWeights& weights, const Mamba1Shape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.ssm_", layer);
  return {.in = weights.require_matrix(prefix + "in.weight", s.n_embd, 2 * s.n_inner),
          .convolution = declare_convolution(weights, prefix + "conv1d", s.convolution()),
          .dt_b_c = weights.require_matrix(prefix + "x.weight", s.n_inner, s.dt_rank + 2 * s.d_state),
          .dt_norm = weights.require(prefix + "dt_norm.weight", {s.dt_rank}),
          .b_norm = weights.require(prefix + "b_norm.weight", {s.d_state}),
          .c_norm = weights.require(prefix + "c_norm.weight", {s.d_state}),
          .dt = weights.require_matrix(prefix + "dt.weight", s.dt_rank, s.n_inner),
          .dt_bias = weights.require_f32(prefix + "dt.bias", {s.n_inner}),
          .a = weights.require_f32(prefix + "a", {s.d_state, s.n_inner}),
          .d = weights.require(prefix + "d", {s.n_inner}),
          .output = weights.require_matrix(prefix + "out.weight", s.n_inner, s.n_embd)};
}

std::vector<StateTensor> mamba1_state(const Mamba1Shape& s) {
  return {convolution_state(s.convolution()), selective_scan_state(s.d_state, s.n_inner)};
}

ggml_tensor* mamba1(const LayerInputs& inputs, const Mamba1Shape& s, const Mamba1Weights& w, int layer,
                    ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const auto part = [&](ggml_tensor* of, int64_t first, int64_t n) {
    return ggml_view_2d(ctx, of, n, n_token, of->nb[1], ggml_row_size(of->type, first));
  };
  ggml_tensor* xz = ggml_mul_mat(ctx, w.in, x);
  ggml_tensor* mixed = ggml_silu(ctx, convolution(inputs, w.convolution, layer, 0, part(xz, 0, s.n_inner)));
  ggml_tensor* dt_b_c = ggml_mul_mat(ctx, w.dt_b_c, mixed);
  const auto normed = [&](int64_t first, int64_t n, ggml_tensor* weight) {
    return norm(ctx, part(dt_b_c, first, n), weight, s.norm_eps);
  };
  ggml_tensor* dt = ggml_mul_mat(ctx, w.dt, normed(0, s.dt_rank, w.dt_norm));
  const auto of_group = [&](ggml_tensor* values) {
    return ggml_reshape_3d(ctx, values, s.d_state, 1, n_token);
  };
  ggml_tensor* y = selective_scan(inputs,
                                  {.x = ggml_reshape_3d(ctx, mixed, 1, s.n_inner, n_token),
                                   .dt = ggml_add(ctx, dt, w.dt_bias),
                                   .a = w.a,
                                   .b = of_group(normed(s.dt_rank, s.d_state, w.b_norm)),
                                   .c = of_group(normed(s.dt_rank + s.d_state, s.d_state, w.c_norm)),
                                   .d = w.d},
                                  layer, 1);
  y = ggml_swiglu_split(ctx, ggml_cont(ctx, part(xz, s.n_inner, s.n_inner)),
                        ggml_reshape_2d(ctx, y, s.n_inner, n_token));
  return ggml_mul_mat(ctx, w.output, y);
}

}  // namespace odmoe
