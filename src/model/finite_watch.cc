#include "model/finite_watch.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "backend/tensor_memory.h"
#include "base/finite.h"
#include "base/units.h"

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

Status KeptOperands::keep(Graph& graph, FiniteSums* sums) {
  operands_.clear();
  for (int i = 0; i < ggml_graph_n_nodes(graph.graph()); ++i) {
    for (const HidingOperand& operand : hiding_operands(ggml_graph_node(graph.graph(), i))) {
      if (operand.tensor == nullptr ||
          std::ranges::contains(operands_, operand.tensor, &HidingOperand::tensor)) {
        continue;
      }
      ggml_set_output(operand.tensor);
      if (operand.tensor->view_src != nullptr) ggml_set_output(operand.tensor->view_src);
      operands_.push_back(operand);
    }
  }
  sums_ = sums;
  if (sums == nullptr) return {};
  ODMOE_ASSIGN_OR_RETURN(summed_, sums->append(graph, operands_));
  return {};
}

void KeptOperands::queue_fetch() const {
  if (sums_ != nullptr) sums_->queue_fetch(summed_);
}

NotFinite KeptOperands::look() const {
  if (sums_ != nullptr) return sums_->look(summed_);
  for (const auto& [tensor, limit] : operands_) {
    const int64_t n_row = ggml_nrows(tensor);
    if (const int64_t row = first_row_not_finite(tensor, 0, n_row, limit); row < n_row) {
      return {.tensor = tensor, .row = row};
    }
  }
  return {};
}

size_t FiniteSums::rows_of(const ggml_tensor* tensor) const {
  return round_up(static_cast<uint64_t>(ggml_nrows(tensor)), backend_->alignment() / sizeof(float));
}

Status FiniteSums::make_room(size_t n_row) {
  if (n_row == 0 || (sums_ != nullptr && std::cmp_less_equal(n_row, ggml_nelements(sums_)))) return {};
  if (!grows_) {
    return fail(ErrorKind::kIo,
                "{} rows of a graph are to be looked at, more than there is room for; please report this",
                n_row);
  }
  memory_ = DeviceMemory();
  host_memory_ = DeviceMemory();
  context_.reset(
      ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  sums_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, static_cast<int64_t>(n_row));
  on_host_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, static_cast<int64_t>(n_row));
  const uint64_t bytes = ggml_nbytes(sums_);
  ODMOE_ASSIGN_OR_RETURN(memory_, DeviceMemory::allocate(*backend_, bytes));
  ODMOE_ASSIGN_OR_RETURN(host_memory_, DeviceMemory::allocate_beside(*backend_, *host_, bytes));
  if (memory_.place(sums_, 0) && host_memory_.place(on_host_, 0)) return {};
  return fail(ErrorKind::kIo, "{} cannot hold sums", backend_->description());
}

// Where half precision would make infinity of a value, that is what the device is asked to sum.
ggml_tensor* FiniteSums::sum(ggml_context* context, const HidingOperand& operand, size_t first) const {
  ggml_tensor* values = operand.tensor;
  if (operand.limit == kHalfLimit)
    values = ggml_cast(context, ggml_cast(context, values, GGML_TYPE_F16), GGML_TYPE_F32);
  ggml_tensor* sums = ggml_sum_rows(context, values);
  place_within(sums_, sums, first * sizeof(float));
  return sums;
}

Result<std::vector<FiniteSums::Summed>> FiniteSums::add(ggml_cgraph* plain, Graph& checked, FiniteWhat what) {
  std::vector<HidingOperand> hiding;
  std::vector<HidingOperand> looked_at;
  const int n_node = ggml_graph_n_nodes(plain);
  for (int i = 0; i < n_node; ++i) {
    for (const HidingOperand& operand : hiding_operands(ggml_graph_node(plain, i))) {
      if (operand.tensor != nullptr) hiding.push_back(operand);
    }
  }
  size_t n_row = 0;
  std::vector<Summed> summed;
  for (int i = 0; i < n_node; ++i) {
    ggml_tensor* values = ggml_graph_node(plain, i);
    const auto found = std::ranges::find(hiding, values, &HidingOperand::tensor);
    if (found == hiding.end() && (what != FiniteWhat::kAll || !can_be_looked_at(values))) continue;
    looked_at.push_back(found != hiding.end() ? *found : HidingOperand{.tensor = values, .limit = kInfinite});
    summed.push_back({.tensor = values, .first = n_row});
    n_row += rows_of(values);
  }
  ODMOE_RETURN_IF_ERROR(make_room(n_row));
  size_t next = 0;
  for (int i = 0; i < n_node; ++i) {
    ggml_tensor* values = ggml_graph_node(plain, i);
    checked.expand(values);
    if (next == summed.size() || summed[next].tensor != values) continue;
    checked.expand(sum(checked.context(), looked_at[next], summed[next].first));
    ++next;
  }
  return summed;
}

Result<std::vector<FiniteSums::Summed>> FiniteSums::append(Graph& graph,
                                                           std::span<const HidingOperand> operands) {
  size_t n_row = 0;
  std::vector<Summed> summed;
  for (const HidingOperand& operand : operands) {
    summed.push_back({.tensor = operand.tensor, .first = n_row});
    n_row += rows_of(operand.tensor);
  }
  ODMOE_RETURN_IF_ERROR(make_room(n_row));
  for (size_t i = 0; i < operands.size(); ++i)
    graph.expand(sum(graph.context(), operands[i], summed[i].first));
  return summed;
}

std::span<float> FiniteSums::fetched(std::span<const Summed> summed) const {
  if (summed.empty()) return {};
  const Summed& last = summed.back();
  return host_values<float>(on_host_).first(last.first + static_cast<size_t>(ggml_nrows(last.tensor)));
}

void FiniteSums::queue_fetch(std::span<const Summed> summed) {
  if (!summed.empty()) backend_->queue_fetch(sums_, 0, std::as_writable_bytes(fetched(summed)));
}

NotFinite FiniteSums::look(std::span<const Summed> summed) const {
  const std::span<const float> sums = fetched(summed);
  for (const auto& [tensor, first] : summed) {
    const auto n = static_cast<size_t>(ggml_nrows(tensor));
    const size_t at = first_not_finite(sums.subspan(first, n));
    if (at < n) return {.tensor = tensor, .row = static_cast<int64_t>(at)};
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
