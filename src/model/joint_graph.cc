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

// A part's product becomes a column of that of all.  True where it is one in place: then it is to be moved.
bool take(ggml_context* ctx, ggml_tensor* all, size_t offset, ggml_tensor* product) {
  product->src[1] = nullptr;
  const bool stays = has_memory(product) || product->view_src != nullptr;  // where somebody expects it
  product->op = stays ? GGML_OP_CONT : GGML_OP_VIEW;
  product->src[0] = stays ? ggml_view_1d(ctx, all, all->ne[0], offset) : all;
  return !stays;
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
  for (size_t i = 0; i < all[0].products.size(); ++i) {
    for (Part& part : all) {
      while (part.nodes[part.done] != part.products[i]) joint.expand(part.nodes[part.done++]);
    }
    multiply(i, columns(all[0].products[i]), joint);
  }
  for (const Part& part : all) {
    for (ggml_tensor* node : part.nodes.subspan(part.done)) joint.expand(node);
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

// A tensor's values, and those of its views, are to be in `whole` from the offset on.
void GraphJoiner::move_into(ggml_tensor* whole, size_t offset, ggml_tensor* tensor, const Part& part) {
  for (ggml_tensor* node : part.nodes) {
    if (node->view_src != tensor) continue;
    node->view_src = whole;
    node->view_offs += offset;
  }
  tensor->view_src = whole;
  tensor->view_offs = offset;
}

// The product of every part, `columns` at a time.
void GraphJoiner::multiply(size_t product, int32_t columns, Graph& joint) {
  if (columns < 2) return;
  ggml_context* ctx = joint.context();
  ggml_tensor* operands = operands_of(product, joint);
  for (size_t first = 0; first < n_part_; first += static_cast<size_t>(columns)) {
    const size_t n = std::min(static_cast<size_t>(columns), n_part_ - first);
    if (n == 1) return;  // it stays as it is
    ggml_tensor* some = ggml_view_2d(ctx, operands, operands->ne[0], static_cast<int64_t>(n), operands->nb[1],
                                     operands->nb[1] * first);
    const ggml_tensor* one = parts_[first].products[product];
    ggml_tensor* all = ggml_mul_mat(ctx, one->src[0], some);
    std::memcpy(all->op_params, one->op_params, sizeof all->op_params);
    joint.expand(all);
    for (size_t i = 0; i < n; ++i) {
      const Part& part = parts_[first + i];
      const size_t offset = all->nb[1] * i;
      if (take(ctx, all, offset, part.products[product])) {
        move_into(all, offset, part.products[product], part);
      }
    }
  }
}

ggml_tensor* GraphJoiner::operands_of(size_t product, Graph& joint) {
  const size_t first = operands_.size();
  for (const Part& part : parts()) operands_.push_back(part.products[product]->src[1]);
  const std::span<const ggml_tensor*> wanted = std::span(operands_).subspan(first);
  for (const Gathered& known : gathered_) {
    if (std::ranges::equal(std::span(operands_).subspan(known.first, n_part_), wanted)) return known.matrix;
  }
  ggml_context* ctx = joint.context();
  ggml_tensor* matrix =
      ggml_new_tensor_2d(ctx, GGML_TYPE_F32, ggml_nelements(wanted[0]), static_cast<int64_t>(n_part_));
  for (size_t i = 0; i < n_part_; ++i) {
    ggml_tensor* operand = parts_[i].products[product]->src[1];
    const size_t offset = matrix->nb[1] * i;
    if (ggml_tensor* made = movable(operand)) {
      move_into(matrix, offset, made, parts_[i]);
    } else {
      joint.expand(ggml_cpy(ctx, operand, ggml_view_1d(ctx, matrix, matrix->ne[0], offset)));
    }
  }
  gathered_.push_back({.first = first, .matrix = matrix});
  return matrix;
}

}  // namespace odmoe
