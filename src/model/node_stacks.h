// Operations of several graphs that compute the same of different tokens, where each row of a result is made
// of rows of its own: one node does them for all, its threads meet once instead of once for each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/finite_watch.h"
#include "model/graph.h"

namespace odmoe {

// A *stack* is a tensor of several parts that are alike, one of each graph in their order, each behind the
// one before in a dimension of its own.  One owner.
class NodeStacks {
 public:
  // Forgets all stacks: what follows is of graphs, of so many parts, that `nodes_of` gives, all nodes of one.
  void begin(std::span<const std::span<ggml_tensor*>> nodes_of);

  // The parts have `whole`, of as many columns, for what they are: [n, part].
  void add(std::span<ggml_tensor* const> parts, ggml_tensor* whole);

  // The stack of these tensors, [n, part] without gaps; null: there is none.  Where they have memory, it is
  // that.
  ggml_tensor* columns(ggml_context* ctx, std::span<ggml_tensor* const> parts);
  // A tensor [n, part] that lies where these do, one behind the other, and has no operation yet; null where
  // they do not.
  ggml_tensor* columns_in_memory(ggml_context* ctx, std::span<ggml_tensor* const> parts) const;

  // Does what the next nodes do, one of each part, for all of them in `joint`; what they give is a view of
  // that from then on.  A view needs no node.  Returns false, with nothing changed, where they are not alike,
  // where the operation is none that does each row by itself with the same bits, or where their operands are
  // neither the same tensor nor a stack.
  bool stack(std::span<ggml_tensor* const> nodes, Graph& joint);

  // A tensor's values, and those of its views among the nodes of its part, are to be in `whole` from the
  // offset on.
  void move_into(ggml_tensor* whole, size_t offset, ggml_tensor* tensor, size_t part) const;

  // Of what a node that looks at values has found in a stack, which part's that is; nothing: it is not one.
  std::optional<size_t> part_of(const NotFinite& found) const;

 private:
  struct Stack {
    size_t first = 0;              // of its parts, in parts_
    ggml_tensor* owner = nullptr;  // whose memory it is in; null: that of the parts
    size_t offset = 0;             // in it
    size_t step = 0;               // bytes from one part to the next
  };
  struct LookedAt {
    const ggml_tensor* values = nullptr;
    int64_t rows_of_part = 1;
  };
  std::span<ggml_tensor* const> parts_of(const Stack& stack) const {
    return std::span(parts_).subspan(stack.first, n_part_);
  }
  std::optional<Stack> find(std::span<ggml_tensor* const> parts);
  Stack keep(std::span<ggml_tensor* const> parts, ggml_tensor* owner, size_t offset, size_t step);
  bool stack_views(std::span<ggml_tensor* const> nodes);
  ggml_tensor* view(ggml_context* ctx, const Stack& stack, int dimension) const;
  std::span<ggml_tensor* const> sources(std::span<ggml_tensor* const> nodes, int number);

  size_t n_part_ = 0;
  std::vector<std::span<ggml_tensor*>> nodes_of_;
  std::vector<ggml_tensor*> parts_;
  std::vector<Stack> stacks_;
  std::vector<LookedAt> looked_at_;
  std::vector<ggml_tensor*> sources_;
};

}  // namespace odmoe
