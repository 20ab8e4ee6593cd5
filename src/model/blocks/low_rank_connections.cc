#include "model/blocks/low_rank_connections.h"

#include "odmoe/format.h"

namespace odmoe {

LowRankConnections::LowRankConnections(const LowRankConnectionShape& shape) : shape_(shape) {
  layers_.resize(static_cast<size_t>(shape.n_layer));
}

LowRankConnectionWeights LowRankConnections::declare_weights(DenseWeights& weights,
                                                             const std::string& prefix) const {
  return {.norm = weights.require_as_f32(prefix + "norm.weight", {shape_.width()}),
          .down = weights.require_matrix(prefix + "down.weight", shape_.width(), shape_.rank),
          .up = weights.require_matrix(prefix + "up.weight", shape_.rank, shape_.width())};
}

void LowRankConnections::declare(DenseWeights& weights, int layer) {
  const auto of_branch = [&](const char* branch) {
    const std::string prefix = odmoe::format("blk.{}.hc_{}_", layer, branch);
    LowRankConnectionWeights w = declare_weights(weights, prefix);
    w.inject = weights.require_matrix(prefix + "inject.weight", shape_.width(), shape_.n_stream);
    return w;
  };
  layers_[static_cast<size_t>(layer)] = {.attention = of_branch("attn"), .mlp = of_branch("ffn")};
}

void LowRankConnections::declare_output(DenseWeights& weights) {
  output_ = declare_weights(weights, "output_hc_");
}

ggml_tensor* LowRankConnections::normed(ggml_context* ctx, const LowRankConnectionWeights& w,
                                        ggml_tensor* streams) const {
  ggml_tensor* n = ggml_rms_norm(ctx, streams, shape_.norm_eps);
  return ggml_mul(ctx, ggml_reshape_2d(ctx, n, shape_.width(), streams->ne[2]), w.norm);
}

ggml_tensor* LowRankConnections::mean(ggml_context* ctx, const LowRankConnectionWeights& w,
                                      ggml_tensor* normed) const {
  const float part = 1.0F / static_cast<float>(shape_.n_stream);
  const auto in_streams = [&](ggml_tensor* x) {
    return ggml_reshape_3d(ctx, x, shape_.n_embd, shape_.n_stream, x->ne[1]);
  };
  ggml_tensor* low = ggml_silu(ctx, ggml_scale(ctx, ggml_mul_mat(ctx, w.down, normed), part));
  return ggml_dsv4_hc_pre_gated(ctx, in_streams(normed), in_streams(ggml_mul_mat(ctx, w.up, low)), part);
}

ggml_tensor* LowRankConnections::begin(ggml_context* ctx, ggml_tensor* embedding) const {
  const int64_t n_token = embedding->ne[1];
  ggml_tensor* one = ggml_reshape_3d(ctx, embedding, shape_.n_embd, 1, n_token);
  return ggml_repeat_4d(ctx, one, shape_.n_embd, shape_.n_stream, n_token, 1);
}

BranchStreams LowRankConnections::open(ggml_context* ctx, int layer, Branch branch, ggml_tensor* streams,
                                       ggml_tensor* /*banked*/) const {
  const Layer& of_layer = layers_[static_cast<size_t>(layer)];
  const LowRankConnectionWeights& w = branch == Branch::kAttention ? of_layer.attention : of_layer.mlp;
  const float part = 1.0F / static_cast<float>(shape_.n_stream);
  ggml_tensor* n = normed(ctx, w, streams);
  ggml_tensor* post = ggml_sigmoid(ctx, ggml_scale(ctx, ggml_mul_mat(ctx, w.inject, n), part));
  return {.streams = streams, .input = mean(ctx, w, n), .post = ggml_scale(ctx, post, 2)};
}

ggml_tensor* LowRankConnections::close(ggml_context* ctx, int /*layer*/, Branch /*branch*/,
                                       const BranchStreams& open, ggml_tensor* output) const {
  return ggml_dsv4_hc_post(ctx, output, open.streams, open.post, /*comb=*/nullptr);
}

ggml_tensor* LowRankConnections::end(ggml_context* ctx, ggml_tensor* streams, ggml_tensor* /*banked*/) const {
  return mean(ctx, output_, normed(ctx, output_, streams));
}

}  // namespace odmoe
