#include "model/blocks/hyper_connections.h"

#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr int64_t kStreams = HyperConnectionShape::kStreams;

// sigmoid(m scale + base) of rows [first, first + kStreams) of the mixes, and the part of scale that is
// theirs.
ggml_tensor* weights_of(ggml_context* ctx, const HyperConnectionWeights& w, ggml_tensor* mixes, int64_t first,
                        int64_t part) {
  const auto bytes = [](int64_t n) { return ggml_row_size(GGML_TYPE_F32, n); };
  ggml_tensor* m = ggml_view_2d(ctx, mixes, kStreams, mixes->ne[1], mixes->nb[1], bytes(first));
  m = ggml_mul(ctx, m, ggml_view_1d(ctx, w.scale, 1, bytes(part)));
  return ggml_sigmoid(ctx, ggml_add(ctx, m, ggml_view_1d(ctx, w.base, kStreams, bytes(first))));
}

}  // namespace

HyperConnections::HyperConnections(const HyperConnectionShape& shape) : shape_(shape) {
  layers_.resize(static_cast<size_t>(shape.n_layer));
}

HyperConnectionWeights HyperConnections::declare_weights(DenseWeights& weights, const std::string& prefix,
                                                         int64_t rows, int64_t scales) const {
  return {.fn = weights.require_matrix(prefix + "fn.weight", shape_.n_embd * kStreams, rows),
          .base = weights.require_f32(prefix + "base.weight", {rows}),
          .scale = weights.require_f32(prefix + "scale.weight", {scales})};
}

void HyperConnections::declare(DenseWeights& weights, int layer) {
  const bool mixed = shape_.sinkhorn_iterations > 0;
  const int64_t rows = mixed ? (2 + kStreams) * kStreams : 2 * kStreams;
  const int64_t scales = mixed ? 3 : 2;
  const std::string prefix = odmoe::format("blk.{}.hc_", layer);
  layers_[static_cast<size_t>(layer)] = {
      .attention = declare_weights(weights, prefix + "attn_", rows, scales),
      .mlp = declare_weights(weights, prefix + "ffn_", rows, scales)};
}

void HyperConnections::declare_output(DenseWeights& weights) {
  if (shape_.end == HyperConnectionShape::End::kMean) return;
  output_ = declare_weights(weights, "output_hc_", kStreams, 1);
}

ggml_tensor* HyperConnections::mixes(ggml_context* ctx, const HyperConnectionWeights& w,
                                     ggml_tensor* streams) const {
  ggml_tensor* flat = ggml_reshape_2d(ctx, streams, shape_.n_embd * kStreams, streams->ne[2]);
  return ggml_mul_mat(ctx, w.fn, ggml_rms_norm(ctx, flat, shape_.norm_eps));
}

ggml_tensor* HyperConnections::begin(ggml_context* ctx, ggml_tensor* embedding) const {
  const int64_t n_token = embedding->ne[1];
  ggml_tensor* one = ggml_reshape_3d(ctx, embedding, shape_.n_embd, 1, n_token);
  return ggml_repeat_4d(ctx, one, shape_.n_embd, kStreams, n_token, 1);
}

BranchStreams HyperConnections::open(ggml_context* ctx, int layer, Branch branch, ggml_tensor* streams,
                                     ggml_tensor* /*banked*/) const {
  const Layer& of_layer = layers_[static_cast<size_t>(layer)];
  const HyperConnectionWeights& w = branch == Branch::kAttention ? of_layer.attention : of_layer.mlp;
  const bool mixed = shape_.sinkhorn_iterations > 0;
  ggml_tensor* m = mixes(ctx, w, streams);
  ggml_tensor* pre = ggml_scale_bias(ctx, weights_of(ctx, w, m, 0, 0), 1, shape_.eps);
  ggml_tensor* post = weights_of(ctx, w, m, kStreams, 1);
  return {.streams = streams,
          .input = ggml_dsv4_hc_pre(ctx, streams, pre),
          .post = ggml_scale_bias(ctx, post, shape_.magnitude, mixed ? 0 : shape_.eps),
          .comb = mixed ? ggml_dsv4_hc_comb(ctx, m, w.scale, w.base, shape_.eps, shape_.sinkhorn_iterations)
                        : nullptr};
}

ggml_tensor* HyperConnections::close(ggml_context* ctx, int /*layer*/, Branch /*branch*/,
                                     const BranchStreams& open, ggml_tensor* output) const {
  return ggml_dsv4_hc_post(ctx, output, open.streams, open.post, open.comb);
}

ggml_tensor* HyperConnections::end(ggml_context* ctx, ggml_tensor* streams, ggml_tensor* /*banked*/) const {
  if (shape_.end == HyperConnectionShape::End::kWeighted) {
    ggml_tensor* pre = weights_of(ctx, output_, mixes(ctx, output_, streams), 0, 0);
    return ggml_dsv4_hc_pre(ctx, streams, ggml_scale_bias(ctx, pre, 1, shape_.eps));
  }
  const auto stream = [&](int64_t i) {
    return ggml_view_2d(ctx, streams, shape_.n_embd, streams->ne[2], streams->nb[2],
                        streams->nb[1] * static_cast<size_t>(i));
  };
  ggml_tensor* sum = stream(0);
  for (int64_t i = 1; i < kStreams; ++i) sum = ggml_add(ctx, sum, stream(i));
  return ggml_scale(ctx, sum, 1.0F / kStreams);
}

}  // namespace odmoe
