// What is between layers where that is more than one vector to which attention and MLP add what they give.  A
// family that has such streams gives the decoder one of these (Architecture::streams()).
#pragma once

#include <cstdint>

#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

enum class Branch : uint8_t { kAttention, kMlp };

// The streams as a branch finds them.
struct BranchStreams {
  ggml_tensor* streams = nullptr;
  ggml_tensor* input = nullptr;  // [n_embd, n_token], a tensor of its own: what the branch's norm begins with
  // What close() wants of it, by kind.
  ggml_tensor* post = nullptr;  // [n_stream, n_token]
  ggml_tensor* comb = nullptr;  // [n_stream, n_stream, n_token]
};

// Streams are [n_embd, n_stream, n_token], contiguous; what is banked is [n_embd, n_bank, n_token], or null
// where nothing ever is.  Immutable once its tensors are declared.
class ResidualStreams {
 public:
  virtual ~ResidualStreams() = default;
  virtual int64_t n_stream() const = 0;
  // Streams, the first of them, that layers find and leave for all later ones: how many at the end, and the
  // number of what the layer leaves; -1: it does not.
  virtual int64_t n_bank() const { return 0; }
  virtual int64_t bank_of(int /*layer*/) const { return -1; }

  virtual void declare(DenseWeights& weights, int layer) = 0;
  virtual void declare_output(DenseWeights& weights) = 0;

  // What the first layer finds; embedding: [n_embd, n_token].  As that of close(), a tensor of its own.
  virtual ggml_tensor* begin(ggml_context* ctx, ggml_tensor* embedding) const = 0;
  // May be called again in another graph, with the same streams.
  virtual BranchStreams open(ggml_context* ctx, int layer, Branch branch, ggml_tensor* streams,
                             ggml_tensor* banked) const = 0;
  // output: [n_embd, n_token], what the branch gave.
  virtual ggml_tensor* close(ggml_context* ctx, int layer, Branch branch, const BranchStreams& open,
                             ggml_tensor* output) const = 0;
  // [n_embd, n_token], a tensor of its own: what the output norm begins with.
  virtual ggml_tensor* end(ggml_context* ctx, ggml_tensor* streams, ggml_tensor* banked) const = 0;
};

}  // namespace odmoe
