// One graph of several that compute the same of different tokens, in which each weight is multiplied once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/graph.h"

namespace odmoe {

// Whether a node is a product of weights with a single column, [n_in, n_out] x [n_in, 1].
bool is_product_of_column(const ggml_tensor* node);

// How many columns such a product may have together with those of the
// others (exact_columns()); 1: it stays alone.
using ProductColumns = std::function<int32_t(const ggml_tensor* product)>;

// Joins graphs of single tokens.  Keeps its memory from one time to the next.  One owner.
class GraphJoiner {
 public:
  // `parts`, at least two, multiply single columns with the same weights in the same order; between these
  // products they may differ in anything.  `joint`, which is empty and has room for max_nodes(), becomes all
  // of them: what each does between two products one after the other, then a product of all their columns at
  // once.  Every value that a part had is computed by the operation that computed it there, from the same
  // values; but tensors of the parts are rewritten, so that these cannot be run any more, and must outlive
  // `joint`.  Their tensors have no memory yet, but for what belongs to somebody else.
  // Returns false, with nothing changed, where weights or their order differ.
  bool join(std::span<const Graph* const> parts, Graph& joint, const ProductColumns& columns);

  // Nodes of a graph that is joined of `parts` graphs of at most `of_part` nodes each.
  static int max_nodes(int parts, int of_part) { return parts * 4 * of_part; }

 private:
  struct Part {
    std::span<ggml_tensor*> nodes;
    std::vector<ggml_tensor*> products;
    size_t done = 0;  // of its nodes
  };
  // A matrix with an operand of each part, beginning with operands_[first].
  struct Gathered {
    size_t first = 0;
    ggml_tensor* matrix = nullptr;
  };
  static void move_into(ggml_tensor* whole, size_t offset, ggml_tensor* tensor, const Part& part);
  std::span<Part> parts() { return std::span(parts_).first(n_part_); }
  bool find_products(std::span<const Graph* const> graphs);
  void multiply(size_t product, int32_t columns, Graph& joint);
  ggml_tensor* operands_of(size_t product, Graph& joint);

  std::vector<Part> parts_;
  size_t n_part_ = 0;
  std::vector<const ggml_tensor*> operands_;
  std::vector<Gathered> gathered_;
};

}  // namespace odmoe
