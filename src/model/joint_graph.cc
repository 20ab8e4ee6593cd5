#include "model/joint_graph.h"

#include <algorithm>
#include <cstring>

#include "backend/tensor_memory.h"

namespace odmoe {
namespace {

const ggml_tensor* weights_of(const ggml_tensor* product) { return product->src[0]; }

bool has_product_with(std::span<ggml_tensor* const> products, const ggml_tensor* weights) {
  return std::ranges::contains(products, weights, weights_of);
}

// What an operand's values can be made in instead of where they would be; null: they have to be copied.
ggml_tensor* movable(ggml_tensor* operand) {
  ggml_tensor* made = operand->view_src != nullptr ? operand->view_src : operand;
  const bool is_all = ggml_nelements(made) == ggml_nelements(operand) && operand->view_offs == 0;
  const bool can_move = is_all && made->op != GGML_OP_NONE && made->view_src == nullptr &&
                        !has_memory(made) && made->type == GGML_TYPE_F32 && ggml_is_contiguous(made) &&
                        ggml_is_contiguous(operand);
  return can_move ? made : nullptr;
}

}  // namespace

bool is_product_of_column(const ggml_tensor* node) {
  if (node->op != GGML_OP_MUL_MAT) return false;
  const ggml_tensor* weights = node->src[0];
  const ggml_tensor* column = node->src[1];
  return weights->op == GGML_OP_NONE && weights->view_src == nullptr &&
         ggml_nrows(weights) == weights->ne[1] && column->type == GGML_TYPE_F32 &&
         ggml_nelements(column) == weights->ne[0];
}

bool GraphJoiner::join(std::span<const Graph* const> parts, Graph& joint, const ProductColumns& columns) {
  if (!find_products(parts)) return false;
  const std::span<Part> all = this->parts();
  nodes_of_.clear();
  for (const Part& part : all) nodes_of_.push_back(part.nodes);
  stacks_.begin(nodes_of_);
  const size_t n_product = all[0].products.size();
  for (size_t i = 0; i <= n_product; ++i) {
    while (next_nodes(i) && stacks_.stack(nodes_, joint)) {
      for (Part& part : all) ++part.done;
    }
    for (Part& part : all) {
      const ggml_tensor* const end = i < n_product ? part.products[i] : nullptr;
      while (part.done < part.nodes.size() && part.nodes[part.done] != end)
        joint.expand(part.nodes[part.done++]);
    }
    if (i == n_product) break;
    multiply(i, columns(all[0].products[i]), joint);
    for (Part& part : all) ++part.done;
  }
  return true;
}

// Into nodes_; false where a part has none before the product.
bool GraphJoiner::next_nodes(size_t product) {
  nodes_.clear();
  for (const Part& part : parts()) {
    if (part.done == part.nodes.size()) return false;
    if (product < part.products.size() && part.nodes[part.done] == part.products[product]) return false;
    nodes_.push_back(part.nodes[part.done]);
  }
  return true;
}

bool GraphJoiner::find_products(std::span<const Graph* const> graphs) {
  n_part_ = graphs.size();
  parts_.resize(std::max(parts_.size(), n_part_));
  operands_.clear();
  gathered_.clear();
  const std::span<Part> all = parts();
  for (size_t i = 0; i < n_part_; ++i) {
    ggml_cgraph* graph = graphs[i]->graph();
    all[i].nodes = {ggml_graph_nodes(graph), static_cast<size_t>(ggml_graph_n_nodes(graph))};
    all[i].done = 0;
    all[i].products.clear();
    std::ranges::copy_if(all[i].nodes, std::back_inserter(all[i].products), is_product_of_column);
  }
  // What only one of them multiplies with is its own, of what its timeline remembers.
  std::erase_if(all[0].products,
                [&](const ggml_tensor* one) { return !has_product_with(all[1].products, one->src[0]); });
  for (Part& part : all.subspan(1)) {
    std::erase_if(part.products,
                  [&](const ggml_tensor* one) { return !has_product_with(all[0].products, one->src[0]); });
    const bool same = std::ranges::equal(part.products, all[0].products, {}, weights_of, weights_of);
    if (!same) return false;
  }
  return true;
}

// The product of every part, `columns` at a time.
void GraphJoiner::multiply(size_t product, int32_t columns, Graph& joint) {
  ggml_context* ctx = joint.context();
  nodes_.clear();
  for (const Part& part : parts()) nodes_.push_back(part.products[product]);
  const ggml_tensor* const one = nodes_[0];
  const auto expected = [](const ggml_tensor* node) { return has_memory(node) || node->view_src != nullptr; };
  const bool moves = std::ranges::none_of(nodes_, expected);  // or somebody expects them where they are
  ggml_tensor* const weights = one->src[0];
  const size_t bytes = ggml_nbytes(one);
  const size_t together = columns < 2 ? 1 : static_cast<size_t>(columns);
  const bool at_once = moves && together >= n_part_;  // then that is where they are
  ggml_tensor* whole = nullptr;
  if (!moves) {
    whole = stacks_.columns_in_memory(ctx, nodes_);
  } else if (!at_once) {
    whole = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, one->ne[0], static_cast<int64_t>(n_part_));
    joint.expand(ggml_view_1d(ctx, whole, ggml_nelements(whole), 0));  // or it would get no memory
  }
  ggml_tensor* operands = columns < 2 ? nullptr : operands_of(product, joint);
  for (size_t first = 0; first < n_part_; first += together) {
    const size_t n = std::min(together, n_part_ - first);
    if (n == 1) {  // it stays as it is
      if (moves) stacks_.move_into(whole, bytes * first, nodes_[first], first);
      joint.expand(nodes_[first]);
      continue;
    }
    ggml_tensor* some = ggml_view_2d(ctx, operands, operands->ne[0], static_cast<int64_t>(n), operands->nb[1],
                                     operands->nb[1] * first);
    ggml_tensor* all = ggml_mul_mat(ctx, weights, some);
    std::memcpy(all->op_params, one->op_params, sizeof all->op_params);
    if (at_once) {
      whole = all;
    } else if (moves) {
      all->view_src = whole;
      all->view_offs = bytes * first;
    } else if (whole != nullptr) {
      place_within(whole, all, bytes * first);
    }
    joint.expand(all);
    for (size_t i = 0; i < n; ++i) {
      ggml_tensor* node = nodes_[first + i];
      node->src[1] = nullptr;
      node->op = whole != nullptr ? GGML_OP_VIEW : GGML_OP_CONT;
      node->src[0] = whole != nullptr ? all : ggml_view_1d(ctx, all, all->ne[0], all->nb[1] * i);
      if (moves) stacks_.move_into(whole, bytes * (first + i), node, first + i);
      if (whole == nullptr) joint.expand(node);
    }
  }
  if (moves) stacks_.add(nodes_, whole);
}

ggml_tensor* GraphJoiner::operands_of(size_t product, Graph& joint) {
  const size_t first = operands_.size();
  for (const Part& part : parts()) operands_.push_back(part.products[product]->src[1]);
  const std::span<ggml_tensor*> wanted = std::span(operands_).subspan(first);
  for (const Gathered& known : gathered_) {
    if (std::ranges::equal(std::span(operands_).subspan(known.first, n_part_), wanted)) return known.matrix;
  }
  ggml_context* ctx = joint.context();
  ggml_tensor* matrix = stacks_.columns(ctx, wanted);
  if (matrix == nullptr) {
    matrix = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, ggml_nelements(wanted[0]), static_cast<int64_t>(n_part_));
    for (size_t i = 0; i < n_part_; ++i) {
      const size_t offset = matrix->nb[1] * i;
      if (ggml_tensor* made = movable(wanted[i])) {
        stacks_.move_into(matrix, offset, made, i);
      } else {
        joint.expand(ggml_cpy(ctx, wanted[i], ggml_view_1d(ctx, matrix, matrix->ne[0], offset)));
      }
    }
  }
  gathered_.push_back({.first = first, .matrix = matrix});
  return matrix;
}

size_t GraphJoiner::part_of(const NotFinite& found) const {
  if (const auto part = stacks_.part_of(found)) return *part;
  for (size_t i = 0; i < n_part_; ++i) {
    if (std::ranges::contains(parts_[i].nodes, found.tensor)) return i;
  }
  return 0;
}

}  // namespace odmoe
