// Manifold-constrained hyper-connections (arXiv:2512.24880; DeepSeek-V4): four streams, of which each branch
// takes a weighted sum, and into which its output goes weighted, while a matrix that is made nearly doubly
// stochastic (Sinkhorn) mixes them.  All weights are made from the streams themselves, through an RMSNorm
// without a weight: m = fn rms(X), and
//   pre = sigmoid(m_0..3 scale_0 + base) + eps, post = 2 sigmoid(m_4..7 scale_1 + base),
//   comb = sinkhorn(m_8..23 scale_2 + base)
//   input = sum pre_i X_i;  X_i = post_i output + sum comb_ij X_j
// Hunyuan 4 does not mix: comb is the identity, m has 8 rows, and post = magnitude sigmoid(..) + eps.
#pragma once

#include <string>
#include <vector>

#include "model/residual_streams.h"

namespace odmoe {

struct HyperConnectionShape {
  static constexpr int64_t kStreams = 4;  // of ggml's operations
  // What the last layer leaves becomes one vector.
  enum class End : uint8_t { kWeighted, kMean };

  int64_t n_embd = 0, n_layer = 0;
  int32_t sinkhorn_iterations = 1;  // 0: the streams are not mixed
  float magnitude = 2;              // of post
  float eps = 1e-6F;
  float norm_eps = 1e-6F;  // of the RMSNorm
  End end = End::kWeighted;
};

struct HyperConnectionWeights {
  ggml_tensor* fn = nullptr;     // [n_embd * kStreams, rows]
  ggml_tensor* base = nullptr;   // [rows]
  ggml_tensor* scale = nullptr;  // [3], without mixing [2]; of the end [1]
};

class HyperConnections final : public ResidualStreams {
 public:
  explicit HyperConnections(const HyperConnectionShape& shape);

  int64_t n_stream() const override { return HyperConnectionShape::kStreams; }
  // blk.LAYER.hc_{attn,ffn}_{fn,base,scale}; output_hc_{fn,base,scale} where the end is weighted.
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
    HyperConnectionWeights attention, mlp;
  };
  HyperConnectionWeights declare_weights(DenseWeights& weights, const std::string& prefix, int64_t rows,
                                         int64_t scales) const;
  ggml_tensor* mixes(ggml_context* ctx, const HyperConnectionWeights& w, ggml_tensor* streams) const;

  HyperConnectionShape shape_;
  std::vector<Layer> layers_;
  HyperConnectionWeights output_;
};

}  // namespace odmoe
