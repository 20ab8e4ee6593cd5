// A ggml graph under construction, and what blocks need to build into it.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <vector>

namespace odmoe {

class KvCache;

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
  std::vector<std::byte> memory_;
  ggml_context_ptr context_;
  ggml_cgraph* graph_ = nullptr;
};

// The inputs of one evaluation, shared by all layers.  All tensors have memory already.
struct LayerInputs {
  ggml_context* context = nullptr;
  ggml_cgraph* graph = nullptr;
  int64_t n_token = 0;
  int64_t n_kv = 0;                  // rows of the KV cache that are looked at
  ggml_tensor* positions = nullptr;  // i32 [n_token]
  ggml_tensor* kv_rows = nullptr;    // i64 [n_token], rows of the KV cache that are written
  ggml_tensor* mask = nullptr;       // f16 [n_kv, n_token], 0 or -inf
  // f32 [1, 1, n_token], Architecture::query_scale of each position; null unless the family scales queries
  ggml_tensor* query_scale = nullptr;
  KvCache* kv = nullptr;
  bool flash_attention = true;
};

// RMSNorm, then the weight; [n_embd, n_token].
inline ggml_tensor* norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight, float eps) {
  return ggml_mul(ctx, ggml_rms_norm(ctx, x, eps), weight);
}

}  // namespace odmoe
