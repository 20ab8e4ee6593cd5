// Single tokens of several timelines in one graph, where a weight is multiplied with several of them at once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "model/finite_watch.h"
#include "model/graph.h"
#include "model/joint_graph.h"
#include "odmoe/result.h"

namespace odmoe {

// Single tokens whose graphs are joined, at most.
inline constexpr int32_t kJoined = 16;

// One owner.
class JointGraphs {
 public:
  // For at most `n` tokens whose graphs have at most `max_nodes` nodes each.
  JointGraphs(Backend& backend, int32_t n, int max_nodes);

  int32_t most() const { return static_cast<int32_t>(parts_.size()); }

  // Tries out how many columns the products of a token's graph may have.  Returns how many bytes of weights
  // are multiplied with more than one.  kIo: no memory.
  Result<uint64_t> learn(const Graph& one);

  // Builds the graph of n tokens, 2 to most(), from those that `build` makes of each; what could hide values
  // that are not finite is looked at by `checks`.  False where these graphs cannot be joined.  Every product
  // in them has been learnt.
  using BuildOne = std::function<void(Graph& graph, size_t token)>;
  bool build(size_t n, const BuildOne& build, FiniteChecks& checks);
  ggml_cgraph* graph() const { return joint_.graph(); }
  // Makes room for the graph, and gives its tensors addresses, in a buffer of their own, which may grow:
  // those of graphs that are kept must stay where they are.  False: there is no memory.
  bool reserve() { return ggml_gallocr_reserve(allocator_.get(), graph()); }
  bool allocate() { return ggml_gallocr_alloc_graph(allocator_.get(), graph()); }

  // Whose what was found by the checks is.
  size_t token_of(const NotFinite& found) const { return joiner_.part_of(found); }

  // Memory of the graphs that were built last, and of the buffer.
  uint64_t graph_bytes() const;
  uint64_t buffer_bytes() const { return ggml_gallocr_get_buffer_size(allocator_.get(), 0); }

 private:
  struct Part {
    Graph plain, checked;  // the second with what looks at values
  };
  struct Shape {
    ggml_type type;
    ggml_backend_buffer_type_t layout;
    int64_t n_in, n_out;
    bool operator==(const Shape&) const = default;
  };
  struct Tried {
    Shape shape;
    int32_t columns;
  };
  Backend* backend_;
  ggml_gallocr_ptr allocator_;
  std::vector<Part> parts_;
  std::vector<const Graph*> built_;
  GraphJoiner joiner_;
  Graph joint_;
  std::vector<Tried> tried_;
  std::unordered_map<const ggml_tensor*, int32_t> columns_;  // by weight
};

}  // namespace odmoe
