#include "model/blocks/lightning_attention.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "model/blocks/selective_scan.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// s of each head.
std::vector<float> slopes(const LightningShape& s, int layer) {
  // In llama.cpp's types, so that the bits are its own.
  const float r = std::pow(2.0F, -std::pow(2.0F, -(std::log2(static_cast<float>(s.n_head)) - 3.0F)));
  const double depth = s.n_layer > 1 ? 1.0 * layer / (s.n_layer - 1) : 0.0;
  const auto of_layer = static_cast<float>(1.0 - depth + 1e-5);
  std::vector<float> slopes;
  for (int64_t h = 0; h < s.n_head; ++h) {
    slopes.push_back(r * std::pow(r, static_cast<float>(h)) * of_layer);
  }
  return slopes;
}

// softplus(kStep) = 1
constexpr float kStep = 0.54132485F;

}  // namespace

LightningWeights declare_lightning(DenseWeights& weights, const LightningShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.attn_", layer);
  LightningWeights w;
  w.qkv = weights.require_matrix(prefix + "qkv.weight", s.n_embd, 3 * s.n_inner());
  w.norm = weights.require(prefix + "norm_2.weight", {s.n_inner()});
  w.gate = weights.require_matrix(prefix + "gate.weight", s.n_embd, s.n_inner());
  w.output = weights.require_matrix(prefix + "output.weight", s.n_inner(), s.n_embd);
  w.a = weights.derive(prefix + "fading", {1, s.n_head}, w.norm,
                       [s, layer](std::span<const float>, std::span<float> result) {
                         std::ranges::transform(slopes(s, layer), result.begin(), std::negate());
                       });
  w.dt = weights.derive(
      prefix + "step", {s.n_head}, w.norm,
      [](std::span<const float>, std::span<float> result) { std::ranges::fill(result, kStep); });
  return w;
}

std::vector<StateTensor> lightning_state(const LightningShape& s) {
  return {selective_scan_state(s.head_dim, s.n_inner())};
}

ggml_tensor* lightning_attention(const LayerInputs& inputs, const LightningShape& s,
                                 const LightningWeights& w, int layer, ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  ggml_tensor* qkv = ggml_silu(ctx, ggml_mul_mat(ctx, w.qkv, x));
  const size_t part = ggml_row_size(qkv->type, s.head_dim);
  const auto heads = [&](size_t i) {
    return ggml_cont(ctx,
                     ggml_view_3d(ctx, qkv, s.head_dim, s.n_head, n_token, 3 * part, qkv->nb[1], i * part));
  };
  ggml_tensor* y = selective_scan(inputs,
                                  {.x = heads(2),
                                   .dt = ggml_repeat_4d(ctx, w.dt, s.n_head, n_token, 1, 1),
                                   .a = w.a,
                                   .b = heads(1),
                                   .c = heads(0)},
                                  layer, 0);
  y = norm(ctx, ggml_reshape_2d(ctx, y, s.n_inner(), n_token), w.norm, s.norm_eps);
  y = ggml_mul(ctx, y, ggml_sigmoid(ctx, ggml_mul_mat(ctx, w.gate, x)));
  return ggml_mul_mat(ctx, w.output, y);
}

}  // namespace odmoe
