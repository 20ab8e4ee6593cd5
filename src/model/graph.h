// A ggml graph under construction, and what blocks need to build into it.
#pragma once

#include <ggml-cpp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "model/sequence_state.h"

namespace odmoe {

// Owns the memory of a graph's tensor headers (not of their data).  reset() makes it empty without
// giving the memory back, so a graph is rebuilt without allocating.
class Graph {
 public:
  // Room for `max_nodes` nodes and as many leaves.
  explicit Graph(int max_nodes);

  void reset();
  ggml_context* context() const { return context_.get(); }
  ggml_cgraph* graph() const { return graph_; }
  void expand(ggml_tensor* tensor) { ggml_build_forward_expand(graph_, tensor); }

 private:
  int max_nodes_;
  // Not set to anything, so that what a graph does not fill never becomes resident.
  std::unique_ptr<std::byte[]> memory_;
  ggml_context_ptr context_;
  ggml_cgraph* graph_ = nullptr;
};

// Bytes of the weights that a graph's products read: of a matrix each time it is multiplied.
uint64_t multiplied_bytes(ggml_cgraph* graph);

// What graphs need to know of the rows of one RowGroup.
struct RowInputs {
  int64_t n_seen = 0;                      // rows that are looked at, from the first on
  int64_t n_written = 0;                   // rows that are written
  ggml_tensor* written = nullptr;          // i64 [n_written], which
  ggml_tensor* mask = nullptr;             // f16 [n_seen, n_token], 0 or -inf
  ggml_tensor* sources = nullptr;          // of blocks: i32 [made_from, n_written], rows they are made from
  ggml_tensor* sources_mask = nullptr;     // of blocks: f32 [made_from, n_written], 0 or -inf
  ggml_tensor* first_positions = nullptr;  // of blocks: i32 [n_written], of each block's first token
};

// The inputs of one evaluation, shared by all layers.  All tensors have memory already.
struct LayerInputs {
  ggml_context* context = nullptr;
  ggml_cgraph* graph = nullptr;
  int64_t n_token = 0;
  ggml_tensor* positions = nullptr;  // i32 [n_token]
  // f32 [1, 1, n_token], Architecture::query_scale of each position; null unless the family scales queries
  ggml_tensor* query_scale = nullptr;
  // i32 [Architecture::chosen_rows(), n], n at least n_token: what layers leave for later ones; null unless
  // the family keeps any
  ggml_tensor* chosen_rows = nullptr;
  const SequenceState* state = nullptr;
  std::array<RowInputs, StatePlan::kMaxGroups> groups;  // of the state's plan
  bool flash_attention = true;
  bool tiled_attention = true;  // its kernels are ggml's for processors, which have tiles for many queries

  // Of the rows of a tensor of the layer's state.
  const RowInputs& rows(int layer, size_t number) const {
    return groups[state->plan().tensor(layer, number).group];
  }
};

// What an evaluation leaves of an overwritten tensor of the layer's state: values, in any shape.
inline void overwrite(const LayerInputs& inputs, int layer, size_t number, ggml_tensor* values) {
  ggml_build_forward_expand(inputs.graph,
                            ggml_cpy(inputs.context, values, inputs.state->after(layer, number)));
}

// RMSNorm, then the weight; [n_embd, n_token].
inline ggml_tensor* norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight, float eps) {
  return ggml_mul(ctx, ggml_rms_norm(ctx, x, eps), weight);
}

}  // namespace odmoe
