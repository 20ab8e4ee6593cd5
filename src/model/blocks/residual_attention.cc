#include "model/blocks/residual_attention.h"

#include <string>

#include "odmoe/format.h"

namespace odmoe {

ResidualAttention::ResidualAttention(const ResidualAttentionShape& shape) : shape_(shape) {
  layers_.resize(static_cast<size_t>(shape.n_layer));
}

void ResidualAttention::declare(DenseWeights& weights, int layer) {
  const std::string prefix = odmoe::format("blk.{}.", layer);
  layers_[static_cast<size_t>(layer)] = {
      .attention = weights.require_f32(prefix + "attn_res_score.weight", {shape_.n_embd}),
      .mlp = weights.require_f32(prefix + "ffn_res_score.weight", {shape_.n_embd})};
}

void ResidualAttention::declare_output(DenseWeights& weights) {
  output_ = weights.require_f32("output_res_score.weight", {shape_.n_embd});
}

ggml_tensor* ResidualAttention::begin(ggml_context* ctx, ggml_tensor* embedding) const {
  return ggml_cont_3d(ctx, embedding, shape_.n_embd, 1, embedding->ne[1]);
}

ggml_tensor* ResidualAttention::mix(ggml_context* ctx, ggml_tensor* score, ggml_tensor* streams,
                                    ggml_tensor* banked, int64_t n_banked) const {
  const int64_t n_token = streams->ne[2];
  ggml_tensor* stream = ggml_reshape_2d(ctx, streams, shape_.n_embd, n_token);
  if (n_banked == 0) return ggml_cont(ctx, stream);
  const auto scores = [&](ggml_tensor* x, int64_t n) {
    ggml_tensor* products = ggml_mul(ctx, ggml_rms_norm(ctx, x, shape_.norm_eps), score);
    return ggml_reshape_2d(ctx, ggml_sum_rows(ctx, products), n, n_token);
  };
  ggml_tensor* bank =
      ggml_view_3d(ctx, banked, shape_.n_embd, n_banked, n_token, banked->nb[1], banked->nb[2],
                   /*offset=*/0);
  ggml_tensor* weights =  // [n_banked + 1, n_token]
      ggml_soft_max(ctx, ggml_concat(ctx, scores(bank, n_banked), scores(stream, 1), 0));
  const auto part = [&](int64_t first, int64_t n) {
    return ggml_cont(
        ctx, ggml_view_2d(ctx, weights, n, n_token, weights->nb[1], ggml_row_size(weights->type, first)));
  };
  return ggml_add(ctx, ggml_dsv4_hc_pre(ctx, bank, part(0, n_banked)),
                  ggml_mul(ctx, stream, part(n_banked, 1)));
}

BranchStreams ResidualAttention::open(ggml_context* ctx, int layer, Branch branch, ggml_tensor* streams,
                                      ggml_tensor* banked) const {
  const Layer& w = layers_[static_cast<size_t>(layer)];
  const bool attention = branch == Branch::kAttention;
  return {.streams = streams,
          .input = mix(ctx, attention ? w.attention : w.mlp, streams, banked,
                       banked_before(attention ? layer : layer + 1))};
}

ggml_tensor* ResidualAttention::close(ggml_context* ctx, int layer, Branch branch, const BranchStreams& open,
                                      ggml_tensor* output) const {
  const int64_t n_token = open.streams->ne[2];
  output = ggml_reshape_3d(ctx, output, shape_.n_embd, 1, n_token);
  const bool anew = branch == Branch::kAttention && bank_of(layer) >= 0;
  return anew ? ggml_cont(ctx, output) : ggml_add(ctx, open.streams, output);
}

ggml_tensor* ResidualAttention::end(ggml_context* ctx, ggml_tensor* streams, ggml_tensor* banked) const {
  return mix(ctx, output_, streams, banked, n_bank());
}

}  // namespace odmoe
