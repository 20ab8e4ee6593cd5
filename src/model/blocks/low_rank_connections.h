// Hyper-connections of low rank (Qwen3.8-Flash-Next): of several streams each branch takes a gated mean,
// which is its norm, too, and what it gives goes into all of them, weighted; nothing mixes them.  Everything
// is made from the streams themselves:
//   n_i = rms(X_i) norm_i;  gate = sigmoid(up silu(down n / n_stream))
//   input = sum n_i gate_i / n_stream;  X_i += 2 sigmoid(inject_i n / n_stream) output
// and the output head begins with a mean of the same kind.
#pragma once

#include <string>
#include <vector>

#include "model/residual_streams.h"

namespace odmoe {

struct LowRankConnectionShape {
  int64_t n_embd = 0, n_stream = 0, n_layer = 0;
  int64_t rank = 0;
  float norm_eps = 1e-6F;

  int64_t width() const { return n_embd * n_stream; }
};

struct LowRankConnectionWeights {
  ggml_tensor* norm = nullptr;    // [n_embd * n_stream]
  ggml_tensor* down = nullptr;    // [n_embd * n_stream, rank]
  ggml_tensor* up = nullptr;      // [rank, n_embd * n_stream]
  ggml_tensor* inject = nullptr;  // [n_embd * n_stream, n_stream]; null at the end
};

class LowRankConnections final : public ResidualStreams {
 public:
  explicit LowRankConnections(const LowRankConnectionShape& shape);

  int64_t n_stream() const override { return shape_.n_stream; }
  // blk.LAYER.hc_{attn,ffn}_{norm,down,up,inject}; output_hc_{norm,down,up}.
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
    LowRankConnectionWeights attention, mlp;
  };
  LowRankConnectionWeights declare_weights(DenseWeights& weights, const std::string& prefix) const;
  // [n_embd * n_stream, n_token].
  ggml_tensor* normed(ggml_context* ctx, const LowRankConnectionWeights& w, ggml_tensor* streams) const;
  ggml_tensor* mean(ggml_context* ctx, const LowRankConnectionWeights& w, ggml_tensor* normed) const;

  LowRankConnectionShape shape_;
  std::vector<Layer> layers_;
  LowRankConnectionWeights output_;
};

}  // namespace odmoe
