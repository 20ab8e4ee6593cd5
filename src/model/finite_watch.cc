#include "model/finite_watch.h"

#include <algorithm>
#include <array>
#include <span>

#include "backend/tensor_memory.h"
#include "base/finite.h"

namespace odmoe {
namespace {

constexpr float kHalfLimit = 65520;  // from here on half precision rounds to infinity

bool can_be_looked_at(const ggml_tensor* values) {
  return values->type == GGML_TYPE_F32 && values->nb[0] == sizeof(float) && !ggml_is_empty(values);
}

using HidingOperands = std::array<HidingOperand, 2>;  // without a tensor: none

// Those in memory of the engine's, who looks at them there, are left out.
HidingOperands hiding_operands(const ggml_tensor* node) {
  HidingOperands operands;
  operands.fill({.tensor = nullptr, .limit = kInfinite});
  HidingOperand& operand = operands[0];
  switch (node->op) {
    case GGML_OP_MUL_MAT:
    case GGML_OP_MUL_MAT_ID:
      if (ggml_is_quantized(node->src[0]->type)) operand.tensor = node->src[1];
      break;
    case GGML_OP_SET_ROWS:
      operand.tensor = node->src[0];
      if (node->type == GGML_TYPE_F16) operand.limit = kHalfLimit;
      break;
    case GGML_OP_FLASH_ATTN_EXT:
      operand.tensor = node->src[0];  // queries: keys have been through SET_ROWS
      break;
    case GGML_OP_SOFT_MAX:
      if (node->src[0]->op == GGML_OP_MUL_MAT) operand.tensor = node->src[0]->src[1];
      break;
    case GGML_OP_UNARY:
      if (ggml_get_unary_op(node) == GGML_UNARY_OP_SIGMOID || ggml_get_unary_op(node) == GGML_UNARY_OP_TANH ||
          ggml_get_unary_op(node) == GGML_UNARY_OP_SOFTPLUS || ggml_get_unary_op(node) == GGML_UNARY_OP_RELU)
        operand.tensor = node->src[0];
      break;
    case GGML_OP_GLU:
      if (ggml_get_glu_op(node) != GGML_GLU_OP_SWIGLU) operand.tensor = node->src[0];
      if (ggml_get_glu_op(node) == GGML_GLU_OP_SWIGLU_OAI ||
          ggml_get_glu_op(node) == GGML_GLU_OP_SWIGLU_CLAMP)
        operands[1].tensor = node->src[1];
      break;
    case GGML_OP_GATED_DELTA_NET:
      operand.tensor = node->src[3];  // gates, of which the exponential is taken
      break;
    case GGML_OP_SSM_SCAN:
      operand.tensor = node->src[2];  // steps, of which the softplus is taken
      break;
    case GGML_OP_CLAMP:
      operand.tensor = node->src[0];
      break;
    case GGML_OP_LIGHTNING_INDEXER:  // of whose scores only the order counts; keys have been through SET_ROWS
      operand.tensor = node->src[0];
      operands[1].tensor = node->src[2];
      break;
    case GGML_OP_POOL_2D:  // of products that a mask was added to; keys have been through SET_ROWS
      if (node->src[0]->op == GGML_OP_ADD && node->src[0]->src[0]->op == GGML_OP_MUL_MAT)
        operand.tensor = node->src[0]->src[0]->src[1];
      break;
    case GGML_OP_DSV4_HC_COMB:
      operand.tensor = node->src[0];
      break;
    case GGML_OP_DSV4_HC_PRE:
      // A gate for each value, of which the sigmoid is taken.
      if (ggml_are_same_shape(node->src[0], node->src[1])) operand.tensor = node->src[1];
      break;
    default:
      break;
  }
  for (HidingOperand& one : operands) {
    const bool ours = one.tensor != nullptr && !has_memory(one.tensor);
    if (!ours || !can_be_looked_at(one.tensor)) one.tensor = nullptr;
  }
  return operands;
}

}  // namespace

int64_t first_row_not_finite(const ggml_tensor* tensor, int64_t first, int64_t end, float limit) {
  std::vector<std::byte> copy;  // of what is elsewhere
  if (!on_host(tensor)) {
    copy.resize(ggml_nbytes(tensor));
    read_tensor(tensor, 0, copy);
  }
  const std::byte* base = copy.empty() ? host_address(tensor) : copy.data();
  const auto n = static_cast<size_t>(tensor->ne[0]);
  if (ggml_is_contiguous(tensor)) {
    const auto* values = reinterpret_cast<const float*>(base) + first * tensor->ne[0];
    return first +
           static_cast<int64_t>(first_not_below(limit, {values, static_cast<size_t>(end - first) * n}) / n);
  }
  for (int64_t row = first; row < end; ++row) {
    const int64_t i1 = row % tensor->ne[1];
    const int64_t i2 = row / tensor->ne[1] % tensor->ne[2];
    const int64_t i3 = row / (tensor->ne[1] * tensor->ne[2]);
    const auto* values = reinterpret_cast<const float*>(base + static_cast<size_t>(i1) * tensor->nb[1] +
                                                        static_cast<size_t>(i2) * tensor->nb[2] +
                                                        static_cast<size_t>(i3) * tensor->nb[3]);
    if (first_not_below(limit, {values, n}) < n) return row;
  }
  return end;
}

void KeptOperands::keep(ggml_cgraph* graph) {
  operands_.clear();
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    for (const HidingOperand& operand : hiding_operands(ggml_graph_node(graph, i))) {
      if (operand.tensor == nullptr ||
          std::ranges::contains(operands_, operand.tensor, &HidingOperand::tensor)) {
        continue;
      }
      ggml_set_output(operand.tensor);
      if (operand.tensor->view_src != nullptr) ggml_set_output(operand.tensor->view_src);
      operands_.push_back(operand);
    }
  }
}

NotFinite KeptOperands::look() const {
  for (const auto& [tensor, limit] : operands_) {
    const int64_t n_row = ggml_nrows(tensor);
    if (const int64_t row = first_row_not_finite(tensor, 0, n_row, limit); row < n_row) {
      return {.tensor = tensor, .row = row};
    }
  }
  return {};
}

void FiniteChecks::add(ggml_cgraph* plain, Graph& checked, What what) {
  const int n_node = ggml_graph_n_nodes(plain);
  operands_.clear();
  for (int i = 0; i < n_node; ++i) {
    for (const HidingOperand& operand : hiding_operands(ggml_graph_node(plain, i))) {
      if (operand.tensor != nullptr) operands_.push_back(operand);
    }
  }
  for (int i = 0; i < n_node; ++i) {
    ggml_tensor* values = ggml_graph_node(plain, i);
    checked.expand(values);
    const auto hiding = std::ranges::find(operands_, values, &HidingOperand::tensor);
    if (hiding != operands_.end()) {
      checked.expand(node(checked.context(), values, hiding->limit == kHalfLimit ? run_for_half : run));
    } else if (what == What::kAll && can_be_looked_at(values)) {
      checked.expand(node(checked.context(), values));
    }
  }
}

ggml_tensor* FiniteChecks::node(ggml_context* context, ggml_tensor* values, ggml_custom_op_t how) {
  return ggml_custom_4d(context, GGML_TYPE_I32, 1, 1, 1, 1, &values, 1, how, GGML_N_TASKS_MAX, this);
}

void FiniteChecks::forget() {
  tensor_ = nullptr;
  row_plus_one_ = 0;
}

void FiniteChecks::run(ggml_tensor* node, int thread, int n_thread, void* checks) {
  static_cast<FiniteChecks*>(checks)->look(node->src[0], kInfinite, thread, n_thread);
}

void FiniteChecks::run_for_half(ggml_tensor* node, int thread, int n_thread, void* checks) {
  static_cast<FiniteChecks*>(checks)->look(node->src[0], kHalfLimit, thread, n_thread);
}

// A node runs in all threads before the next begins, so the first tensor to be found is the first there is;
// of its rows the least is kept.
void FiniteChecks::look(const ggml_tensor* values, float limit, int thread, int n_thread) {
  const int64_t n_row = ggml_nrows(values);
  const int64_t end = n_row * (thread + 1) / n_thread;
  const int64_t row = first_row_not_finite(values, n_row * thread / n_thread, end, limit);
  if (row == end) return;
  const ggml_tensor* first = nullptr;
  if (!tensor_.compare_exchange_strong(first, values) && first != values) return;
  int64_t least = row_plus_one_.load();
  while ((least == 0 || row + 1 < least) && !row_plus_one_.compare_exchange_weak(least, row + 1)) {
  }
}

}  // namespace odmoe
