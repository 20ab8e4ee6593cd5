#include "engine/joint_graphs.h"

#include <algorithm>

#include "backend/tensor_memory.h"
#include "model/blocks/exact_columns.h"

namespace odmoe {

JointGraphs::JointGraphs(Backend& backend, int32_t n, int max_nodes)
    : backend_(&backend),
      allocator_(ggml_gallocr_new(backend.buffer_type())),
      joint_(GraphJoiner::max_nodes(n, 2 * max_nodes)) {
  parts_.reserve(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i)
    parts_.push_back({.plain = Graph(max_nodes), .checked = Graph(2 * max_nodes)});
}

Result<uint64_t> JointGraphs::learn(const Graph& one) {
  uint64_t bytes = 0;
  for (int i = 0; i < ggml_graph_n_nodes(one.graph()); ++i) {
    const ggml_tensor* product = ggml_graph_node(one.graph(), i);
    if (!is_product_of_column(product)) continue;
    const ggml_tensor* weights = product->src[0];
    const Shape shape = {.type = weights->type,
                         .layout = ggml_backend_buffer_get_type(weights->buffer),
                         .n_in = weights->ne[0],
                         .n_out = weights->ne[1]};
    auto known = std::ranges::find(tried_, shape, &Tried::shape);
    if (known == tried_.end()) {
      ODMOE_ASSIGN_OR_RETURN(const int32_t columns, exact_columns(*backend_, weights, most()));
      known = tried_.insert(tried_.end(), {.shape = shape, .columns = columns});
    }
    columns_[weights] = known->columns;
    if (known->columns > 1) bytes += ggml_nbytes(weights);
  }
  return bytes;
}

bool JointGraphs::build(size_t n, const BuildOne& build, FiniteChecks& checks) {
  built_.clear();
  for (size_t i = 0; i < n; ++i) {
    Part& part = parts_[i];
    part.plain.reset();
    build(part.plain, i);
    part.checked.reset();
    checks.add(part.plain.graph(), part.checked, FiniteWhat::kHiding);
    built_.push_back(&part.checked);
  }
  joint_.reset();
  const auto columns = [this](const ggml_tensor* product) {
    const auto known = columns_.find(product->src[0]);
    return known == columns_.end() ? 1 : known->second;
  };
  return joiner_.join(built_, joint_, columns);
}

uint64_t JointGraphs::graph_bytes() const {
  uint64_t bytes = ggml_used_mem(joint_.context());
  for (const Part& part : parts_)
    bytes += ggml_used_mem(part.plain.context()) + ggml_used_mem(part.checked.context());
  return bytes;
}

}  // namespace odmoe
