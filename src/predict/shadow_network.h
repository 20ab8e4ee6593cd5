// The arithmetic of a learned predictor: small networks, one per layer with experts, that may share weights,
// computed through ggml on one thread.  What the networks are is the caller's (predict/shadow_model.h reads
// them from a file); this lays the weights out, quantised, and runs them.
//
//   scaled x -> blocks, one after another: linear + bias, LayerNorm, SiLU
//            -> the sum of the heads, each one linear map, or two in a row, of the last block's output or of
//            x,
//               + bias
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "odmoe/result.h"

namespace odmoe {

struct ShadowPlan {
  static constexpr int kNone = -1;
  struct Matrix {
    int32_t n_in = 0, n_out = 0;
  };
  // Indices into matrices and vectors.
  struct Block {
    int matrix = kNone;
    int bias = kNone, norm_weight = kNone, norm_bias = kNone;  // [n_out of the matrix]
  };
  struct Head {
    int matrix = kNone;
    int then = kNone;         // a second matrix, applied to what the first gives
    bool from_input = false;  // reads x, not what the blocks made of it
  };
  struct Layer {
    int32_t n_in = 0, n_out = 0;
    int input_scale = kNone;  // [n_in], what the blocks see is x times this
    std::vector<Block> blocks;
    std::vector<Head> heads;  // at least one; their results are added
    int bias = kNone;         // [n_out], added to that
  };

  float norm_eps = 1e-5F;
  std::vector<Matrix> matrices;
  std::vector<int32_t> vectors;  // lengths
  std::vector<Layer> layers;
};

// What weights are in memory unless said otherwise: q8_0, or q4_0 where q8_0 would take more than this, which
// a predictor is not worth.
inline constexpr uint64_t kMaxWideWeightBytes = uint64_t{400} << 20U;
ggml_type suitable_type(const ShadowPlan& plan);

// One owner.  Computes on the thread that calls; allocates at creation alone.
class ShadowNetwork {
 public:
  struct Options {
    // Of the matrices: GGML_TYPE_F32, F16, Q8_0, Q4_0, Q4_K, ...  A matrix whose rows do not divide into the
    // type's blocks is F16.  Vectors are F32.
    ggml_type type = GGML_TYPE_Q8_0;
    bool repack = true;  // let ggml lay matrices out for its wider kernels
  };

  // Memory for everything, nothing in it yet.  Errors: kUsage (a plan that does not fit together, naming
  // what), kUnsupported (ggml cannot compute with the type), kIo (no memory).
  static Result<std::unique_ptr<ShadowNetwork>> create(const ShadowPlan& plan, const Options& options);

  // The values of a matrix, [n_in, n_out] with n_in fastest, or of a vector; each once, before compute().
  void set_matrix(size_t index, std::span<const float> values);
  void set_vector(size_t index, std::span<const float> values);

  // The place of a layer's x [n_in], to be filled before compute(), and of the result [n_out] after it.  All
  // layers have the same.
  std::span<float> input(size_t layer);
  std::span<const float> output(size_t layer) const;
  Status compute(size_t layer);

  size_t n_layer() const { return graphs_.size(); }
  uint64_t weight_bytes() const { return weight_bytes_; }  // of all matrices and vectors, laid out
  uint64_t bytes() const { return weight_bytes_ + work_bytes_; }
  uint64_t bytes_read(size_t layer) const;  // weights that one compute() reads
  ggml_type type_of(size_t matrix) const { return matrices_[matrix]->type; }
  bool repacked() const { return repacked_ != nullptr; }

 private:
  ShadowNetwork() = default;
  Status build(const ShadowPlan& plan, const Options& options);
  ggml_tensor* build_layer(ggml_context* ctx, const ShadowPlan& plan, const ShadowPlan::Layer& layer);

  std::unique_ptr<Backend> backend_;
  ggml_context_ptr weights_context_, repacked_context_, io_context_;
  std::vector<ggml_tensor*> matrices_, vectors_;
  ggml_backend_buffer_ptr plain_, repacked_, io_;
  ggml_tensor *x_ = nullptr, *y_ = nullptr;        // of the widest layer
  std::vector<std::pair<size_t, size_t>> widths_;  // n_in, n_out by layer
  std::vector<ggml_context_ptr> graph_contexts_;
  std::vector<ggml_cgraph*> graphs_;
  ggml_gallocr_ptr allocator_;
  std::vector<uint64_t> layer_bytes_;
  uint64_t weight_bytes_ = 0, work_bytes_ = 0;
};

}  // namespace odmoe
