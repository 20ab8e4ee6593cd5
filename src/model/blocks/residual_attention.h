// Attention over the depth of a model (Kimi-K3): every block_size layers the stream is banked, and after that
// layer's attention it begins anew with what that gave.  What a branch's norm begins with, and the output
// norm, is a mix of all that is banked and the stream, by a softmax over scores rms(x) . weight; before
// anything is banked it is the stream.
#pragma once

#include <vector>

#include "model/residual_streams.h"

namespace odmoe {

struct ResidualAttentionShape {
  int64_t n_embd = 0;
  int32_t n_layer = 0;
  int32_t block_size = 1;
  float norm_eps = 1e-6F;
};

class ResidualAttention final : public ResidualStreams {
 public:
  explicit ResidualAttention(const ResidualAttentionShape& shape);

  int64_t n_stream() const override { return 1; }
  int64_t n_bank() const override { return banked_before(shape_.n_layer); }
  int64_t bank_of(int layer) const override {
    return layer % shape_.block_size == 0 ? layer / shape_.block_size : -1;
  }
  // blk.LAYER.{attn,ffn}_res_score; output_res_score.
  void declare(DenseWeights& weights, int layer) override;
  void declare_output(DenseWeights& weights) override;
  ggml_tensor* begin(ggml_context* ctx, ggml_tensor* embedding) const override;
  BranchStreams open(ggml_context* ctx, int layer, Branch branch, ggml_tensor* streams,
                     ggml_tensor* banked) const override;
  ggml_tensor* close(ggml_context* ctx, int layer, Branch branch, const BranchStreams& open,
                     ggml_tensor* output) const override;
  ggml_tensor* end(ggml_context* ctx, ggml_tensor* streams, ggml_tensor* banked) const override;

 private:
  struct Layer {
    ggml_tensor *attention = nullptr, *mlp = nullptr;  // [n_embd]
  };
  // How many layers before this one are banked.
  int64_t banked_before(int layer) const { return (layer + shape_.block_size - 1) / shape_.block_size; }
  ggml_tensor* mix(ggml_context* ctx, ggml_tensor* score, ggml_tensor* streams, ggml_tensor* banked,
                   int64_t n_banked) const;

  ResidualAttentionShape shape_;
  std::vector<Layer> layers_;
  ggml_tensor* output_ = nullptr;  // [n_embd]
};

}  // namespace odmoe
