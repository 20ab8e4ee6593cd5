#include "model/blocks/convolution.h"

namespace odmoe {

ConvolutionWeights declare_convolution(DenseWeights& weights, const std::string& name,
                                       const ConvolutionShape& s) {
  ConvolutionWeights w;
  w.kernel = s.has_middle_one ? weights.require_f32(name + ".weight", {s.n_tap, 1, s.n_channel})
                              : weights.require_f32(name + ".weight", {s.n_tap, s.n_channel});
  if (s.bias) w.bias = weights.optional(name + ".bias", {s.n_channel});
  return w;
}

StateTensor convolution_state(const ConvolutionShape& shape) {
  return StateTensor::overwritten((shape.n_tap - 1) * shape.n_channel);
}

ggml_tensor* convolution(const LayerInputs& inputs, const ConvolutionWeights& w, int layer, size_t number,
                         ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_tap = w.kernel->ne[0];
  const int64_t n_channel = x->ne[0];
  ggml_tensor* before = ggml_reshape_2d(ctx, inputs.state->before(layer, number), n_tap - 1, n_channel);
  // [n_tap - 1 + n_token, n_channel]: each channel's inputs in the order of the tokens.
  ggml_tensor* in = ggml_concat(ctx, before, ggml_cont(ctx, ggml_transpose(ctx, x)), 0);
  ggml_tensor* last =
      ggml_view_2d(ctx, in, n_tap - 1, n_channel, in->nb[1], ggml_row_size(in->type, inputs.n_token));
  overwrite(inputs, layer, number, last);
  ggml_tensor* kernel = ggml_reshape_2d(ctx, w.kernel, n_tap, n_channel);
  ggml_tensor* y = ggml_ssm_conv(ctx, ggml_reshape_3d(ctx, in, in->ne[0], n_channel, 1), kernel);
  y = ggml_reshape_2d(ctx, y, n_channel, inputs.n_token);
  return w.bias == nullptr ? y : ggml_add(ctx, y, w.bias);
}

}  // namespace odmoe
