// A made-up family with a layer of each kind of state, on the weights of a qwen3moe file:
//   0  attention to all tokens
//   1  attention to a window
//   2  attention to a window and to blocks of four tokens, each the mean of eight, in one softmax
//   3  attention to an aligned window
//   4  a convolution and a gated delta net
// All that a family needs for its state is here: what it remembers in a layer, and a graph that reads it and
// writes it.
#pragma once

#include <memory>
#include <vector>

#include "model/arch/architecture.h"
#include "model/arch/gqa_model.h"
#include "model/arch/metadata.h"
#include "model/blocks/attention.h"

namespace odmoe::testing {

class ToyFamily final : public Architecture {
 public:
  static constexpr int kLayers = 5;
  static constexpr int64_t kWindow = 24, kAligned = 40, kBlock = 4, kMadeFrom = 8, kConvolution = 4;

  static Result<std::unique_ptr<Architecture>> make(Account& account) {
    ODMOE_RETURN_IF_ERROR(account.get_string("general.architecture"));
    const Metadata metadata(account, "qwen3moe");
    ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(metadata, {}, RopePairs::kHalves));
    model.gqa.qk_norm = QkNorm::kPerHead;
    return std::make_unique<ToyFamily>(std::move(model.shape), model.gqa);
  }
  ToyFamily(ModelShape shape, const GqaShape& gqa) : Architecture(std::move(shape)), gqa_(gqa) {
    layers_.resize(static_cast<size_t>(this->shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    const int64_t row = gqa_.head_dim * gqa_.n_head_kv;
    const auto pair = [&](const RowKind& kind) { return std::vector(2, StateTensor::rows(row, kind)); };
    switch (layer) {
      case 0:
        return pair({});
      case 1:
        return pair({.window = kWindow});
      case 2: {
        std::vector<StateTensor> tensors = pair({.window = kWindow});
        const StateTensor blocks = StateTensor::rows(row, {.tokens_per_row = kBlock, .made_from = kMadeFrom});
        const StateTensor sources = StateTensor::rows(row, {.window = kMadeFrom}, GGML_TYPE_F32);
        tensors.insert(tensors.end(), {blocks, blocks, sources, sources});
        return tensors;
      }
      case 3:
        return pair({.window = kAligned, .aligned = true});
      default:
        return {StateTensor::overwritten((kConvolution - 1) * 3 * row),
                StateTensor::overwritten(row * gqa_.head_dim)};
    }
  }

  void declare(DenseWeights& weights, int layer) override {
    layers_[static_cast<size_t>(layer)] = declare_gqa(weights, gqa_, layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    const GqaWeights& w = layers_[static_cast<size_t>(layer)];
    if (layer == 2) return blocks(inputs, w, x);
    if (layer == 4) return delta_net(inputs, w, x);
    return gqa(inputs, gqa_, w, layer, x);
  }

 private:
  ggml_tensor* blocks(const LayerInputs& inputs, const GqaWeights& w, ggml_tensor* x) const {
    constexpr int kLayer = 2;
    ggml_context* ctx = inputs.context;
    const int64_t row = gqa_.head_dim * gqa_.n_head_kv;
    ggml_tensor* q =
        ggml_reshape_3d(ctx, ggml_mul_mat(ctx, w.q, x), gqa_.head_dim, gqa_.n_head, inputs.n_token);
    const RowInputs& window = inputs.rows(kLayer, 0);
    const RowInputs& blocks = inputs.rows(kLayer, 2);
    std::vector<ggml_tensor*> both;
    for (const size_t i : {size_t{0}, size_t{1}}) {
      ggml_tensor* values = ggml_mul_mat(ctx, i == 0 ? w.k : w.v, x);
      write_rows(inputs, kLayer, i, values);
      write_rows(inputs, kLayer, 4 + i, values);
      // Of each block that has a token here: the mean of what is there.
      const int64_t n = kMadeFrom * blocks.n_written;
      ggml_tensor* from =
          ggml_get_rows(ctx, inputs.state->rows(kLayer, 4 + i), ggml_reshape_1d(ctx, blocks.sources, n));
      from = ggml_reshape_3d(ctx, from, row, kMadeFrom, blocks.n_written);
      ggml_tensor* weights = ggml_soft_max(ctx, ggml_cont(ctx, blocks.sources_mask));
      ggml_tensor* mean =
          ggml_mul_mat(ctx, ggml_cont(ctx, ggml_permute(ctx, from, 1, 0, 2, 3)),
                       ggml_reshape_3d(ctx, weights, kMadeFrom, 1, blocks.n_written));  // [row, 1, n_written]
      write_rows(inputs, kLayer, 2 + i, ggml_reshape_2d(ctx, mean, row, blocks.n_written));
      both.push_back(ggml_concat(ctx, seen_heads(inputs, kLayer, i, gqa_.head_dim, gqa_.n_head_kv),
                                 seen_heads(inputs, kLayer, 2 + i, gqa_.head_dim, gqa_.n_head_kv), 1));
    }
    ggml_tensor* mask = ggml_concat(ctx, window.mask, blocks.mask, 0);
    ggml_tensor* out = attend(inputs, q, both[0], {.heads = both[1]}, mask, gqa_.kq_scale);
    return ggml_mul_mat(ctx, w.output,
                        ggml_reshape_2d(ctx, out, gqa_.head_dim * gqa_.n_head, inputs.n_token));
  }

  ggml_tensor* delta_net(const LayerInputs& inputs, const GqaWeights& w, ggml_tensor* x) const {
    constexpr int kLayer = 4;
    ggml_context* ctx = inputs.context;
    const int64_t d = gqa_.head_dim;
    const int64_t h = gqa_.n_head_kv;
    const int64_t n = inputs.n_token;
    const int64_t row = d * h;
    const int64_t channels = 3 * row;
    // [q | k | v] through the convolution, whose last inputs stay.
    ggml_tensor* q_all = ggml_mul_mat(ctx, w.q, x);
    ggml_tensor* q = ggml_view_2d(ctx, q_all, row, n, q_all->nb[1], 0);
    ggml_tensor* qkv =
        ggml_concat(ctx, ggml_concat(ctx, q, ggml_mul_mat(ctx, w.k, x), 0), ggml_mul_mat(ctx, w.v, x), 0);
    ggml_tensor* old = ggml_reshape_2d(ctx, inputs.state->before(kLayer, 0), kConvolution - 1, channels);
    ggml_tensor* in = ggml_concat(ctx, old, ggml_cont(ctx, ggml_transpose(ctx, qkv)), 0);
    ggml_tensor* last =
        ggml_view_2d(ctx, in, kConvolution - 1, channels, in->nb[1], static_cast<size_t>(n) * sizeof(float));
    keep(inputs, last, inputs.state->after(kLayer, 0));
    ggml_tensor* kernel =
        ggml_view_2d(ctx, w.output, kConvolution, channels, kConvolution * sizeof(float), 0);
    ggml_tensor* mixed = ggml_silu(
        ctx, ggml_ssm_conv(ctx, ggml_reshape_3d(ctx, in, n + kConvolution - 1, channels, 1), kernel));
    const auto heads = [&](int64_t part) {
      ggml_tensor* some = ggml_view_3d(ctx, mixed, d, h, n, static_cast<size_t>(d) * sizeof(float),
                                       mixed->nb[1], static_cast<size_t>(part * row) * sizeof(float));
      return ggml_reshape_4d(ctx, ggml_cont(ctx, some), d, h, n, 1);
    };
    const auto number = [&](size_t of) {
      ggml_tensor* some = ggml_view_3d(ctx, q_all, 1, h, n, sizeof(float), q_all->nb[1], of * sizeof(float));
      return ggml_reshape_4d(ctx, ggml_sigmoid(ctx, ggml_cont(ctx, some)), 1, h, n, 1);
    };
    ggml_tensor* state = ggml_reshape_4d(ctx, inputs.state->before(kLayer, 1), d, d, h, 1);
    ggml_tensor* out =
        ggml_gated_delta_net(ctx, ggml_l2_norm(ctx, heads(0), 1e-6F), ggml_l2_norm(ctx, heads(1), 1e-6F),
                             heads(2), ggml_neg(ctx, number(0)), number(static_cast<size_t>(h)), state, 1);
    const auto attended = static_cast<size_t>(row * n) * sizeof(float);
    keep(inputs, ggml_view_1d(ctx, out, row * d, attended), inputs.state->after(kLayer, 1));
    ggml_tensor* y = ggml_reshape_2d(ctx, ggml_view_1d(ctx, out, row * n, 0), row, n);
    y = ggml_repeat_4d(ctx, y, d * gqa_.n_head, n, 1, 1);
    return ggml_mul_mat(ctx, w.output, y);
  }

  static void keep(const LayerInputs& inputs, ggml_tensor* values, ggml_tensor* state) {
    ggml_build_forward_expand(inputs.graph, ggml_cpy(inputs.context, values, state));
  }

  GqaShape gqa_;
  std::vector<GqaWeights> layers_;
};

}  // namespace odmoe::testing
