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

}  // namespace odmoe
