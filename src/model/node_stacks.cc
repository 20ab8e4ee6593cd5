#include "model/node_stacks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/tensor_memory.h"

namespace odmoe {
namespace {

// How many dimensions a tensor needs, at least one.
int used_dimensions(const ggml_tensor* tensor) {
  int used = GGML_MAX_DIMS;
  while (used > 1 && tensor->ne[used - 1] == 1) --used;
  return used;
}

bool is_view_of(const ggml_tensor* node) { return node->op == GGML_OP_RESHAPE || node->op == GGML_OP_VIEW; }

bool alike(const ggml_tensor* one, const ggml_tensor* other) {
  return one->type == other->type && std::ranges::equal(one->ne, other->ne) &&
         std::ranges::equal(one->nb, other->nb) && has_memory(one) == has_memory(other);
}

bool all_alike(std::span<ggml_tensor* const> tensors) {
  return std::ranges::all_of(tensors.subspan(1),
                             [&](const ggml_tensor* other) { return alike(tensors[0], other); });
}

bool do_the_same(std::span<ggml_tensor* const> nodes) {
  return all_alike(nodes) && std::ranges::all_of(nodes.subspan(1), [&](const ggml_tensor* other) {
           return other->op == nodes[0]->op &&
                  std::memcmp(other->op_params, nodes[0]->op_params, sizeof other->op_params) == 0;
         });
}

bool all_same(std::span<ggml_tensor* const> tensors) {
  return std::ranges::all_of(tensors, [&](const ggml_tensor* tensor) { return tensor == tensors[0]; });
}

// Whether ggml's processors make each row of the result of the same rows of the operands, whichever others
// there are.
bool goes_by_rows(const ggml_tensor* node) {
  switch (node->op) {
    case GGML_OP_ADD:
    case GGML_OP_SUB:
    case GGML_OP_MUL:
    case GGML_OP_DIV:
    case GGML_OP_SCALE:
    case GGML_OP_CLAMP:
    case GGML_OP_CONT:
    case GGML_OP_UNARY:
    case GGML_OP_GLU:
    case GGML_OP_NORM:
    case GGML_OP_RMS_NORM:
    case GGML_OP_GET_ROWS:
    case GGML_OP_ROPE:
    case GGML_OP_CUSTOM:  // what looks at values: the graphs have no other
      return true;
    default:
      return false;
  }
}

// Whether ggml asks that operands have no gaps between their rows.
bool needs_no_gaps(const ggml_tensor* node) {
  return node->op == GGML_OP_SCALE || node->op == GGML_OP_CLAMP || node->op == GGML_OP_UNARY ||
         node->op == GGML_OP_GLU;
}

// Whether the source is a number for each token: a position, or a row.
bool is_number_of_token(const ggml_tensor* node, int source) {
  return source == 1 && (node->op == GGML_OP_ROPE || node->op == GGML_OP_GET_ROWS);
}

}  // namespace

void NodeStacks::begin(std::span<const std::span<ggml_tensor*>> nodes_of) {
  n_part_ = nodes_of.size();
  nodes_of_.assign(nodes_of.begin(), nodes_of.end());
  parts_.clear();
  stacks_.clear();
  looked_at_.clear();
}

NodeStacks::Stack NodeStacks::keep(std::span<ggml_tensor* const> parts, ggml_tensor* owner, size_t offset,
                                   size_t step) {
  const Stack stack{.first = parts_.size(), .owner = owner, .offset = offset, .step = step};
  parts_.insert(parts_.end(), parts.begin(), parts.end());
  stacks_.push_back(stack);
  return stack;
}

void NodeStacks::add(std::span<ggml_tensor* const> parts, ggml_tensor* whole) {
  if (all_alike(parts)) (void)keep(parts, whole, 0, whole->nb[1]);
}

std::optional<NodeStacks::Stack> NodeStacks::find(std::span<ggml_tensor* const> parts) {
  for (const Stack& known : stacks_) {
    if (std::ranges::equal(parts_of(known), parts)) return known;
  }
  if (!has_memory(parts[0]) || !all_alike(parts)) return std::nullopt;
  const std::optional<size_t> step = step_between(parts);
  if (!step) return std::nullopt;
  return keep(parts, nullptr, 0, *step);
}

// With the parts behind each other in a dimension that they do not use.
ggml_tensor* NodeStacks::view(ggml_context* ctx, const Stack& stack, int dimension) const {
  const ggml_tensor* part = parts_of(stack)[0];
  std::array<int64_t, GGML_MAX_DIMS> ne{};
  std::array<size_t, GGML_MAX_DIMS> nb{};
  std::ranges::copy(part->ne, ne.begin());
  std::ranges::copy(part->nb, nb.begin());
  const auto at = static_cast<size_t>(dimension);
  ne[at] = static_cast<int64_t>(n_part_);
  nb[at] = stack.step;
  for (size_t i = at + 1; i < nb.size(); ++i) nb[i] = nb[i - 1] * static_cast<size_t>(ne[i - 1]);
  if (stack.owner == nullptr) {
    ggml_tensor* tensor = ggml_new_tensor_4d(ctx, part->type, ne[0], ne[1], ne[2], ne[3]);
    std::ranges::copy(nb, tensor->nb);
    place_from(part, tensor);
    return tensor;
  }
  ggml_tensor* tensor =
      ggml_view_4d(ctx, stack.owner, ne[0], ne[1], ne[2], ne[3], nb[1], nb[2], nb[3], stack.offset);
  std::ranges::copy(nb, tensor->nb);
  return tensor;
}

ggml_tensor* NodeStacks::columns(ggml_context* ctx, std::span<ggml_tensor* const> parts) {
  const std::optional<Stack> stack = find(parts);
  if (!stack || stack->step != ggml_nbytes(parts[0]) || !ggml_is_contiguous(parts[0])) return nullptr;
  if (stack->owner == nullptr) return columns_in_memory(ctx, parts);
  return ggml_view_2d(ctx, stack->owner, ggml_nelements(parts[0]), static_cast<int64_t>(n_part_), stack->step,
                      stack->offset);
}

ggml_tensor* NodeStacks::columns_in_memory(ggml_context* ctx, std::span<ggml_tensor* const> parts) const {
  if (!has_memory(parts[0]) || !all_alike(parts) || !ggml_is_contiguous(parts[0])) return nullptr;
  if (step_between(parts) != ggml_nbytes(parts[0])) return nullptr;
  ggml_tensor* tensor =
      ggml_new_tensor_2d(ctx, parts[0]->type, ggml_nelements(parts[0]), static_cast<int64_t>(n_part_));
  place_from(parts[0], tensor);
  return tensor;
}

std::span<ggml_tensor* const> NodeStacks::sources(std::span<ggml_tensor* const> nodes, int number) {
  sources_.clear();
  for (const ggml_tensor* node : nodes) sources_.push_back(node->src[number]);
  return sources_;
}

// What is viewed is a part already, and so is the view, somewhere in it.
bool NodeStacks::stack_views(std::span<ggml_tensor* const> nodes) {
  if (has_memory(nodes[0])) return true;  // it is found where it is
  const std::optional<Stack> viewed = find(sources(nodes, 0));
  if (!viewed) return false;
  // Its own offset goes from where its owner's memory begins.
  const bool is_within = viewed->owner != nullptr && nodes[0]->view_src == viewed->owner &&
                         nodes[0]->view_offs >= viewed->offset;
  if (!is_within) return false;
  for (size_t i = 1; i < n_part_; ++i) {
    if (nodes[i]->view_src != viewed->owner) return false;
    if (nodes[i]->view_offs != nodes[0]->view_offs + i * viewed->step) return false;
  }
  (void)keep(nodes, viewed->owner, nodes[0]->view_offs, viewed->step);
  return true;
}

bool NodeStacks::stack(std::span<ggml_tensor* const> nodes, Graph& joint) {
  const ggml_tensor* const one = nodes[0];
  if (is_view_of(one)) {  // whose place is not the same
    const auto is_view = [&](const ggml_tensor* other) { return other->op == one->op; };
    return all_alike(nodes) && std::ranges::all_of(nodes, is_view) && stack_views(nodes);
  }
  if (!goes_by_rows(one) || !do_the_same(nodes)) return false;
  const bool looks = one->op == GGML_OP_CUSTOM;
  const bool stays = has_memory(one);
  if (!looks && (one->type != GGML_TYPE_F32 || !ggml_is_contiguous(one))) return false;
  if (one->view_src != nullptr && !stays) return false;  // in place of what somebody else may see
  if (one->op == GGML_OP_ROPE && (one->ne[2] != 1 || one->src[1]->ne[0] != 1)) return false;

  struct Source {
    ggml_tensor* shared = nullptr;
    std::optional<Stack> stack;
  };
  std::array<Source, GGML_MAX_SRC> from;
  int dimension = one->op == GGML_OP_ROPE ? 2 : 1;
  if (!looks) dimension = std::max(dimension, used_dimensions(one));
  bool any = false;
  for (int i = 0; i < GGML_MAX_SRC; ++i) {
    const std::span<ggml_tensor* const> of_all = sources(nodes, i);
    if (of_all[0] == nullptr && all_same(of_all)) continue;
    Source& source = from[static_cast<size_t>(i)];
    const bool is_matrix_of_rows = i == 0 && one->op == GGML_OP_GET_ROWS;
    if (one->op == GGML_OP_GET_ROWS && all_same(of_all) != is_matrix_of_rows) return false;
    if (all_same(of_all)) {
      // The first operand says what shape the result has, but where it is a matrix of rows.
      if (i == 0 && !is_matrix_of_rows) return false;
      source.shared = of_all[0];
      continue;
    }
    if (std::ranges::contains(of_all, nullptr)) return false;
    source.stack = find(of_all);
    if (!source.stack) return false;
    any = true;
    const ggml_type type = of_all[0]->type;
    if (is_number_of_token(one, i)) {
      if (type != GGML_TYPE_I32 || source.stack->step != sizeof(int32_t) || ggml_nelements(of_all[0]) != 1)
        return false;
      continue;
    }
    if (type != GGML_TYPE_F32) return false;
    const bool has_gaps = source.stack->step != ggml_nbytes(of_all[0]) || !ggml_is_contiguous(of_all[0]);
    if (has_gaps && needs_no_gaps(one)) return false;
    dimension = std::max(dimension, used_dimensions(of_all[0]));
  }
  if (!any || dimension >= GGML_MAX_DIMS || (one->op == GGML_OP_ROPE && dimension != 2)) return false;
  const std::optional<size_t> step = stays && !looks ? step_between(nodes) : std::nullopt;
  if (stays && !looks && step != ggml_nbytes(one)) return false;

  ggml_context* ctx = joint.context();
  ggml_tensor* whole = nullptr;
  if (looks) {
    whole = ggml_new_tensor_1d(ctx, one->type, 1);
  } else {
    std::array<int64_t, GGML_MAX_DIMS> ne{};
    std::ranges::copy(one->ne, ne.begin());
    ne[static_cast<size_t>(dimension)] = static_cast<int64_t>(n_part_);
    whole = ggml_new_tensor_4d(ctx, one->type, ne[0], ne[1], ne[2], ne[3]);
    if (stays) place_from(one, whole);
  }
  whole->op = one->op;
  std::memcpy(whole->op_params, one->op_params, sizeof whole->op_params);
  for (int i = 0; i < GGML_MAX_SRC; ++i) {
    const Source& source = from[static_cast<size_t>(i)];
    whole->src[i] = source.shared;
    if (source.stack) whole->src[i] = view(ctx, *source.stack, is_number_of_token(one, i) ? 0 : dimension);
  }
  joint.expand(whole);
  if (looks) {
    looked_at_.push_back({.values = whole->src[0], .rows_of_part = ggml_nrows(one->src[0])});
    return true;
  }
  const size_t bytes = ggml_nbytes(one);
  for (size_t i = 0; i < n_part_; ++i) {
    ggml_tensor* node = nodes[i];
    std::ranges::fill(node->src, nullptr);
    node->op = GGML_OP_VIEW;
    node->src[0] = whole;
    if (!stays) move_into(whole, i * bytes, node, i);
  }
  (void)keep(nodes, stays ? nullptr : whole, 0, bytes);
  return true;
}

void NodeStacks::move_into(ggml_tensor* whole, size_t offset, ggml_tensor* tensor, size_t part) const {
  for (ggml_tensor* node : nodes_of_[part]) {
    if (node->view_src != tensor) continue;
    node->view_src = whole;
    node->view_offs += offset;
  }
  tensor->view_src = whole;
  tensor->view_offs = offset;
}

std::optional<size_t> NodeStacks::part_of(const NotFinite& found) const {
  const auto looked = std::ranges::find(looked_at_, found.tensor, &LookedAt::values);
  if (looked == looked_at_.end()) return std::nullopt;
  return static_cast<size_t>(found.row / looked->rows_of_part);
}

}  // namespace odmoe
