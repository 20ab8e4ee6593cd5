#include "model/blocks/short_convolution.h"

#include "odmoe/format.h"

namespace odmoe {

ShortConvolutionWeights declare_short_convolution(DenseWeights& weights, const ShortConvolutionShape& s,
                                                  int layer) {
  const std::string prefix = odmoe::format("blk.{}.shortconv.", layer);
  return {.in = weights.require_matrix(prefix + "in_proj.weight", s.n_embd, 3 * s.n_embd),
          .convolution = declare_convolution(weights, prefix + "conv", s.convolution()),
          .out = weights.require_matrix(prefix + "out_proj.weight", s.n_embd, s.n_embd)};
}

std::vector<StateTensor> short_convolution_state(const ShortConvolutionShape& s) {
  return {convolution_state(s.convolution())};
}

ggml_tensor* short_convolution(const LayerInputs& inputs, const ShortConvolutionShape& s,
                               const ShortConvolutionWeights& w, int layer, ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  ggml_tensor* bcx = ggml_mul_mat(ctx, w.in, x);
  const auto part = [&](int64_t i) {
    return ggml_view_2d(ctx, bcx, s.n_embd, inputs.n_token, bcx->nb[1],
                        ggml_row_size(bcx->type, i * s.n_embd));
  };
  ggml_tensor* y = convolution(inputs, w.convolution, layer, 0, ggml_mul(ctx, part(0), part(2)));
  return ggml_mul_mat(ctx, w.out, ggml_mul(ctx, y, part(1)));
}

}  // namespace odmoe
