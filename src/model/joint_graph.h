// One graph of several that compute the same of different tokens, in which each weight is multiplied once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/graph.h"
#include "model/node_stacks.h"

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
  // of them: what follows a product, as far as it goes row by row and is alike, for all at once (NodeStacks),
  // the rest of what each does before the next product one after the other, then a product of all their
  // columns at once.  Every value that a part had is computed by the operation that computed it there, from
  // the same values; but tensors of the parts are rewritten, so that these cannot be run any more, and must
  // outlive `joint`.  Their tensors have no memory yet, but for what belongs to somebody else.
  // Returns false, with nothing changed, where weights or their order differ.
  bool join(std::span<const Graph* const> parts, Graph& joint, const ProductColumns& columns);

  // Of what a node that looks at values has found in the graph that was joined last, whose that is.
  size_t part_of(const NotFinite& found) const;

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
  std::span<Part> parts() { return std::span(parts_).first(n_part_); }
  bool find_products(std::span<const Graph* const> graphs);
  bool next_nodes(size_t product);
  void multiply(size_t product, int32_t columns, Graph& joint);
  ggml_tensor* operands_of(size_t product, Graph& joint);

  std::vector<Part> parts_;
  size_t n_part_ = 0;
  NodeStacks stacks_;
  std::vector<ggml_tensor*> nodes_;  // the next one of each part, or its product
  std::vector<std::span<ggml_tensor*>> nodes_of_;
  std::vector<ggml_tensor*> operands_;
  std::vector<Gathered> gathered_;
};

}  // namespace odmoe
