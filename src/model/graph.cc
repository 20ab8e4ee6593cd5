#include "model/graph.h"

namespace odmoe {

Graph::Graph(int max_nodes) : max_nodes_(max_nodes) {
  const size_t bytes = ggml_tensor_overhead() * static_cast<size_t>(2 * max_nodes) +
                       ggml_graph_overhead_custom(static_cast<size_t>(max_nodes), false);
  memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
  context_.reset(ggml_init({.mem_size = bytes, .mem_buffer = memory_.get(), .no_alloc = true}));
  reset();
}

void Graph::reset() {
  ggml_reset(context_.get());
  graph_ = ggml_new_graph_custom(context_.get(), static_cast<size_t>(max_nodes_), false);
}

uint64_t multiplied_bytes(ggml_cgraph* graph) {
  uint64_t bytes = 0;
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    const ggml_tensor* node = ggml_graph_node(graph, i);
    if (node->op != GGML_OP_MUL_MAT) continue;
    const ggml_tensor* weights = node->src[0];
    if (weights->op == GGML_OP_NONE && weights->view_src == nullptr) bytes += ggml_nbytes(weights);
  }
  return bytes;
}

}  // namespace odmoe
