#include "model/blocks/device_experts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <string>

#include "backend/tensor_memory.h"
#include "base/units.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr int64_t kLeastRows = 16, kMostRows = 512;
constexpr int kBlocksOfGraph = 32;  // of one graph, at most
constexpr int kNodesOfBlock = 40;
// Kernels count the values between operands in 32 bits.
constexpr int64_t kMostValuesOfWindow = int64_t{1} << 31;

uint64_t values_bytes(int64_t n, uint64_t alignment) {
  return round_up(static_cast<uint64_t>(n) * sizeof(float), alignment);
}

}  // namespace

int64_t DeviceExperts::block_rows(const ModelShape& shape, int64_t n_token) {
  const auto pairs = static_cast<uint64_t>(n_token * shape.router.n_expert_used);
  return std::clamp(static_cast<int64_t>(std::bit_ceil(pairs)), kLeastRows, kMostRows);
}

DeviceExperts::DeviceExperts(Backend& device, const ModelShape& shape, int64_t chunk)
    : device_(&device),
      shape_(shape),
      chunk_(chunk),
      most_rows_(std::max<int64_t>(block_rows(shape, chunk), shape.router.n_expert_used)),
      graph_(kBlocksOfGraph * kNodesOfBlock),
      asked_(kNodesOfBlock) {
  const auto n_pair = static_cast<size_t>(most_rows_);
  added_.reserve(kBlocksOfGraph * n_pair);
  summed_.reserve(size_t{3} * kBlocksOfGraph);
  block_.reserve(n_pair);
  of_window_.reserve(static_cast<size_t>(chunk * shape.router.n_expert_used));
  slots_.reserve(n_pair);
}

Result<std::unique_ptr<DeviceExperts>> DeviceExperts::create(Backend& device, const Backend& host,
                                                             const ModelShape& shape, int64_t chunk) {
  std::unique_ptr<DeviceExperts> experts(new DeviceExperts(device, shape, chunk));
  ODMOE_RETURN_IF_ERROR(experts->allocate(host));
  experts->forget();
  return experts;
}

Status DeviceExperts::allocate(const Backend& host) {
  const uint64_t alignment = device_->alignment();
  const int64_t n = most_rows_;
  // Of a block: tokens, slots and experts; rows; weights.
  const uint64_t numbers = kBlocksOfGraph * (4 * values_bytes(n, alignment) + values_bytes(2 * n, alignment));
  const int64_t n_sum = 3 * kBlocksOfGraph * static_cast<int64_t>(values_bytes(n, alignment) / sizeof(float));
  const uint64_t sums = values_bytes(n_sum, alignment);
  const int64_t n_hidden = shape_.activation == Activation::kSitu ? 3 : 2;
  scratch_offset_ = numbers + sums;
  // Inputs, those weighed, what gate and up give, outputs, those scaled, and their factors.
  const uint64_t scratch = 4 * values_bytes(shape_.expert_width() * n, alignment) +
                           n_hidden * values_bytes(shape_.n_ff_exp * n, alignment) +
                           values_bytes(n, alignment);
  ODMOE_ASSIGN_OR_RETURN(memory_, DeviceMemory::allocate(*device_, scratch_offset_ + scratch));
  ODMOE_ASSIGN_OR_RETURN(host_memory_, DeviceMemory::allocate_beside(*device_, host, scratch_offset_));
  context_.reset(
      ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  const auto make = [&](ggml_type type, uint64_t bytes) {
    return ggml_new_tensor_1d(context_.get(), type, static_cast<int64_t>(bytes / sizeof(float)));
  };
  numbers_ = make(GGML_TYPE_I32, numbers);
  host_numbers_ = make(GGML_TYPE_I32, numbers);
  sums_ = make(GGML_TYPE_F32, sums);
  host_sums_ = make(GGML_TYPE_F32, sums);
  if (memory_.place(numbers_, 0) && memory_.place(sums_, numbers) && host_memory_.place(host_numbers_, 0) &&
      host_memory_.place(host_sums_, numbers)) {
    return {};
  }
  return fail(ErrorKind::kIo, "{} cannot hold what experts are computed with", device_->description());
}

void DeviceExperts::forget() {
  graph_.reset();
  scratch_used_ = numbers_used_ = 0;
  sums_used_ = 0;
  n_block_ = 0;
  added_.clear();
  summed_.clear();
  not_finite_.reset();
}

std::string DeviceExperts::lacking(const LayerExperts& experts, int32_t n_slot) {
  for (const bool one_token : {true, false}) {
    asked_.reset();
    ggml_context* ctx = asked_.context();
    const int64_t n_used = one_token ? shape_.router.n_expert_used : 1;
    const int64_t n_column = one_token ? 1 : kLeastRows;
    ggml_tensor* ids = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, n_used, n_column);
    const auto matrix = [&](const ExpertMatrix& of) {
      ggml_tensor* weights = ggml_new_tensor_3d(ctx, of.type, of.n_in, of.n_out, n_slot);
      weights->nb[2] = experts.slot_bytes;
      weights->nb[3] = weights->nb[2] * static_cast<size_t>(n_slot);
      return weights;
    };
    ggml_tensor* x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, experts.up.n_in, 1, n_column);
    ggml_tensor* up = ggml_mul_mat_id(ctx, matrix(experts.up), x, ids);
    ggml_tensor* gate = experts.has_gate ? ggml_mul_mat_id(ctx, matrix(experts.gate), x, ids) : up;
    if (experts.terms.up_bias != nullptr) up = ggml_add_id(ctx, up, experts.terms.up_bias, ids);
    if (experts.terms.gate_bias != nullptr) gate = ggml_add_id(ctx, gate, experts.terms.gate_bias, ids);
    asked_.expand(gate);
    ggml_tensor* hidden = gated(ctx, experts.glu, gate, up);
    asked_.expand(ggml_sum_rows(ctx, hidden));
    ggml_tensor* y = ggml_mul_mat_id(ctx, matrix(experts.down), hidden, ids);
    if (experts.terms.down_bias != nullptr) y = ggml_add_id(ctx, y, experts.terms.down_bias, ids);
    const int64_t n = n_used * n_column;
    ggml_tensor* rows = ggml_new_tensor_1d(ctx, GGML_TYPE_I64, n);
    ggml_tensor* output = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, experts.down.n_out, n);
    asked_.expand(ggml_set_rows(ctx, output, ggml_reshape_2d(ctx, y, experts.down.n_out, n), rows));
    asked_.expand(ggml_get_rows(ctx, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, experts.up.n_in, n_column),
                                ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_column)));
    for (int i = 0; i < ggml_graph_n_nodes(asked_.graph()); ++i) {
      const ggml_tensor* node = ggml_graph_node(asked_.graph(), i);
      if (device_->supports(node)) continue;
      return odmoe::format("{} on {}", ggml_op_desc(node),
                           ggml_type_name(node->src[0] != nullptr ? node->src[0]->type : node->type));
    }
  }
  return {};
}

const ExpertMatrix* DeviceExperts::padded(const LayerExperts& experts) {
  for (const ExpertMatrix* matrix : {&experts.gate, &experts.up, &experts.down}) {
    if (pads_matrix(device_->buffer_type(), matrix->type, matrix->n_in, matrix->n_out)) return matrix;
  }
  return nullptr;
}

int32_t DeviceExperts::most_slots(const LayerExperts& experts, int32_t most) {
  for (const ExpertMatrix* matrix : {&experts.gate, &experts.up, &experts.down}) {
    const auto values = static_cast<int64_t>(experts.slot_bytes / ggml_type_size(matrix->type)) *
                        ggml_blck_size(matrix->type);
    most = static_cast<int32_t>(std::min<int64_t>(most, kMostValuesOfWindow / std::max<int64_t>(values, 1)));
  }
  int32_t low = 0;  // these many it can, one more than `high` - 1 it cannot
  int32_t high = most + 1;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (lacking(experts, middle).empty() ? low : high) = middle;
  }
  return low;
}

ggml_tensor* DeviceExperts::scratch(ggml_tensor* tensor) {
  [[maybe_unused]] const bool placed = memory_.place(tensor, scratch_offset_ + scratch_used_);
  assert(placed);
  scratch_used_ += round_up(ggml_nbytes(tensor), device_->alignment());
  assert(scratch_offset_ + scratch_used_ <= memory_.size());
  return tensor;
}

// A tensor of numbers that go to the device before the graph is launched.
template <typename T, typename ValueOf>
ggml_tensor* DeviceExperts::numbers(ggml_type type, int64_t n, const ValueOf& value_of) {
  ggml_tensor* tensor = ggml_new_tensor_1d(graph_.context(), type, n);
  place_within(numbers_, tensor, numbers_used_);
  auto* values = reinterpret_cast<T*>(host_address(host_numbers_) + numbers_used_);
  for (int64_t i = 0; i < n; ++i) values[i] = value_of(static_cast<size_t>(i));
  numbers_used_ += round_up(ggml_nbytes(tensor), device_->alignment());
  return tensor;
}

ggml_tensor* DeviceExperts::product(const DeviceLayer& layer, int32_t window, const ExpertMatrix& matrix,
                                    uint64_t offset, ggml_tensor* x, ggml_tensor* ids) {
  const uint64_t slot_bytes = layer.experts.slot_bytes;
  const int32_t n_slot = layer.slots->n_slot(window);
  ggml_tensor* slots = ggml_new_tensor_3d(graph_.context(), matrix.type, matrix.n_in, matrix.n_out, n_slot);
  slots->nb[2] = slot_bytes;
  slots->nb[3] = slot_bytes * static_cast<size_t>(n_slot);
  [[maybe_unused]] const bool placed = layer.slots->place(slots, window, offset);
  assert(placed);
  return scratch(ggml_mul_mat_id(graph_.context(), slots, x, ids));
}

// Sums each row of a block's values; of its first n_pair rows they are looked at.
void DeviceExperts::sum(ggml_tensor* values, size_t n_pair) {
  ggml_tensor* sums = ggml_sum_rows(graph_.context(), values);
  place_within(sums_, sums, sums_used_ * sizeof(float));
  graph_.expand(sums);
  summed_.push_back({.first_sum = sums_used_, .first_pair = added_.size() - n_pair, .n_pair = n_pair});
  sums_used_ += values_bytes(ggml_nrows(values), device_->alignment()) / sizeof(float);
}

// The first slot of a window that none of the pairs is in, so that what is thrown away adds no rows to an
// expert that is wanted.
int32_t DeviceExperts::filler(std::span<const ExpertPair> pairs, int32_t first_slot, int32_t n_slot) {
  slots_.clear();
  for (const ExpertPair& pair : pairs) {
    if (slots_.empty() || slots_.back() != pair.slot) slots_.push_back(pair.slot);
  }
  std::ranges::sort(slots_);
  int32_t free = first_slot;
  for (const int32_t slot : slots_) {
    if (slot == free) ++free;
  }
  return std::min(free, first_slot + n_slot - 1);  // or there is nothing to be filled
}

Status DeviceExperts::build(const DeviceLayer& layer, int32_t window, const ExpertColumns& a, int64_t n_row,
                            bool one_token, std::span<const ExpertPair> pairs) {
  const int32_t first_slot = layer.slots->first_slot(window);
  const int32_t unused = filler(pairs, first_slot, layer.slots->n_slot(window)) - first_slot;
  const auto n_pair = std::ssize(pairs);
  const int64_t n_embd = shape_.expert_width();
  const int64_t n_used = shape_.router.n_expert_used;
  ggml_context* ctx = graph_.context();
  scratch_used_ = 0;

  const auto at = [&](size_t i) { return i < pairs.size() ? &pairs[i] : nullptr; };
  // One token is multiplied by all its experts; of several, each pair is a column of its own.
  const auto shaped = [&](ggml_tensor* numbers) {
    return one_token ? ggml_reshape_2d(ctx, numbers, n_row, 1) : ggml_reshape_2d(ctx, numbers, 1, n_row);
  };
  Ids ids;
  ids.slot = shaped(numbers<int32_t>(
      GGML_TYPE_I32, n_row, [&](size_t i) { return at(i) != nullptr ? at(i)->slot - first_slot : unused; }));
  ggml_tensor* expert_numbers = nullptr;
  if (layer.experts.terms) {
    expert_numbers = numbers<int32_t>(GGML_TYPE_I32, n_row,
                                      [&](size_t i) { return at(i) != nullptr ? at(i)->expert : 0; });
    ids.expert = shaped(expert_numbers);
  }
  ggml_tensor* rows = numbers<int64_t>(GGML_TYPE_I64, n_pair, [&](size_t i) {
    return static_cast<int64_t>(pairs[i].token) * n_used + pairs[i].rank;
  });

  ggml_tensor* x = nullptr;
  if (one_token && !shape_.extras.weigh_input) {
    x = ggml_view_3d(ctx, a.input, n_embd, 1, 1, a.input->nb[1], a.input->nb[1], 0);
  } else {
    ggml_tensor* tokens = numbers<int32_t>(GGML_TYPE_I32, n_row,
                                           [&](size_t i) { return pairs[i < pairs.size() ? i : 0].token; });
    x = scratch(ggml_get_rows(ctx, a.input, tokens));
    if (shape_.extras.weigh_input) {
      const auto weights = host_values<float>(a.weight);
      ggml_tensor* factors = numbers<float>(GGML_TYPE_F32, n_row, [&](size_t i) {
        if (at(i) == nullptr) return 0.0F;
        return weights[static_cast<size_t>(at(i)->token * n_used + at(i)->rank)];
      });
      x = scratch(ggml_mul(ctx, x, ggml_reshape_2d(ctx, factors, 1, n_row)));
    }
    x = one_token ? ggml_reshape_3d(ctx, x, n_embd, n_row, 1) : ggml_reshape_3d(ctx, x, n_embd, 1, n_row);
  }

  const LayerExperts& experts = layer.experts;
  const auto add_bias = [&](ggml_tensor* y, ggml_tensor* bias) {
    if (bias == nullptr) return y;
    ggml_tensor* biased = ggml_add_id(ctx, y, bias, ids.expert);
    place_within(y, biased);
    return biased;
  };
  ggml_tensor* gate = nullptr;
  if (experts.has_gate) {
    gate = add_bias(product(layer, window, experts.gate, layer.gate_offset, x, ids.slot),
                    experts.terms.gate_bias);
  }
  ggml_tensor* up =
      add_bias(product(layer, window, experts.up, layer.up_offset, x, ids.slot), experts.terms.up_bias);
  if (gate == nullptr) gate = up;
  // Before they are written over.
  if (hides_infinite_gate(experts.glu)) sum(gate, pairs.size());
  if (hides_infinite_up(experts.glu) && up != gate) sum(up, pairs.size());
  ggml_tensor* hidden = gated(ctx, experts.glu, gate, up, [this](ggml_tensor* result, ggml_tensor* operand) {
    operand == nullptr ? static_cast<void>(scratch(result)) : place_within(operand, result);
  });
  if (ggml_is_quantized(experts.down.type)) sum(hidden, pairs.size());
  ggml_tensor* y = add_bias(product(layer, window, experts.down, layer.down_offset, hidden, ids.slot),
                            experts.terms.down_bias);
  y = ggml_reshape_2d(ctx, y, n_embd, n_row);
  if (ggml_tensor* scales = experts.terms.down_scale; scales != nullptr) {
    ggml_tensor* factors =
        scratch(ggml_get_rows(ctx, ggml_reshape_2d(ctx, scales, 1, scales->ne[0]), expert_numbers));
    y = scratch(ggml_mul(ctx, y, factors));
  }
  ggml_tensor* wanted = ggml_view_2d(ctx, y, n_embd, n_pair, y->nb[1], 0);
  graph_.expand(ggml_set_rows(ctx, a.output, wanted, rows));
  return {};
}

// Whether the experts of a block, whose pairs follow each other, are in all slots of a window.
bool DeviceExperts::leaves_no_slot(const DeviceLayer& layer, int32_t window,
                                   std::span<const ExpertPair> pairs) {
  int32_t n_expert = 0, slot = -1;
  for (const ExpertPair& pair : pairs) {
    if (std::exchange(slot, pair.slot) != pair.slot) ++n_expert;
  }
  return n_expert > 1 && n_expert == layer.slots->n_slot(window);
}

Status DeviceExperts::add_block(const DeviceLayer& layer, int32_t window, const ExpertColumns& a,
                                int32_t first_column, int64_t n_row, bool one_token,
                                std::span<const ExpertPair> pairs) {
  if (std::ssize(pairs) < n_row && leaves_no_slot(layer, window, pairs)) {
    const auto last = std::ranges::find(pairs, pairs.back().slot, &ExpertPair::slot);
    const auto n = static_cast<size_t>(last - pairs.begin());
    ODMOE_RETURN_IF_ERROR(add_block(layer, window, a, first_column, n_row, one_token, pairs.first(n)));
    return add_block(layer, window, a, first_column, n_row, one_token, pairs.subspan(n));
  }
  if (n_block_ == kBlocksOfGraph) ODMOE_RETURN_IF_ERROR(launch());
  for (ExpertPair pair : pairs) {
    pair.token += first_column;
    added_.push_back(pair);
  }
  ++n_block_;
  return build(layer, window, a, n_row, one_token, pairs);
}

Status DeviceExperts::add_token(const DeviceLayer& layer, const ExpertColumns& a, int32_t first_column,
                                std::span<const ExpertPair> pairs) {
  for (int32_t window = 0; window < layer.slots->n_window(); ++window) {
    block_.clear();
    std::ranges::copy_if(pairs, std::back_inserter(block_),
                         [&](const ExpertPair& pair) { return layer.slots->window_of(pair.slot) == window; });
    if (block_.empty()) continue;
    const int64_t n_row = layer.any_of_token ? std::ssize(block_) : shape_.router.n_expert_used;
    ODMOE_RETURN_IF_ERROR(add_block(layer, window, a, first_column, n_row, /*one_token=*/true, block_));
  }
  return {};
}

Status DeviceExperts::add_chunk(const DeviceLayer& layer, const ExpertColumns& a, int32_t first_column,
                                int64_t n_token, std::span<const ExpertPair> pairs) {
  const auto n_row = static_cast<size_t>(block_rows(shape_, n_token));
  const auto add = [&](int32_t window, std::span<const ExpertPair> block) -> Status {
    if (block.empty()) return {};
    return add_block(layer, window, a, first_column, static_cast<int64_t>(n_row), /*one_token=*/false, block);
  };
  for (int32_t window = 0; window < layer.slots->n_window(); ++window) {
    of_window_.clear();
    std::ranges::copy_if(pairs, std::back_inserter(of_window_),
                         [&](const ExpertPair& pair) { return layer.slots->window_of(pair.slot) == window; });
    std::span<const ExpertPair> left(of_window_);
    block_.clear();
    while (!left.empty()) {
      size_t n = 1;  // of the next expert
      while (n < left.size() && left[n].slot == left[0].slot) ++n;
      std::span<const ExpertPair> of_expert = left.first(n);
      left = left.subspan(n);
      for (; of_expert.size() >= n_row; of_expert = of_expert.subspan(n_row)) {
        ODMOE_RETURN_IF_ERROR(add(window, of_expert.first(n_row)));
      }
      if (block_.size() + of_expert.size() > n_row) {
        ODMOE_RETURN_IF_ERROR(add(window, block_));
        block_.clear();
      }
      block_.insert(block_.end(), of_expert.begin(), of_expert.end());
    }
    ODMOE_RETURN_IF_ERROR(add(window, block_));
  }
  return {};
}

// What was added, and waits for it: numbers and sums are to be used again.
Status DeviceExperts::launch() {
  if (n_block_ == 0) return {};
  place_views(graph_.graph());
  device_->send(numbers_, 0, odmoe::host_bytes(host_numbers_).first(numbers_used_));
  ODMOE_RETURN_IF_ERROR(device_->launch(graph_.graph()));
  const auto sums = host_values<float>(host_sums_).first(sums_used_);
  if (!sums.empty()) device_->queue_fetch(sums_, 0, std::as_writable_bytes(sums));
  ODMOE_RETURN_IF_ERROR(device_->settle());
  for (const Summed& of : summed_) {
    for (size_t i = 0; i < of.n_pair && !not_finite_; ++i) {
      if (!std::isfinite(sums[of.first_sum + i])) not_finite_ = added_[of.first_pair + i];
    }
  }
  const auto found = not_finite_;
  forget();
  not_finite_ = found;
  return {};
}

Result<std::optional<ExpertPair>> DeviceExperts::finish() {
  ODMOE_RETURN_IF_ERROR(launch());
  return std::exchange(not_finite_, std::nullopt);
}

}  // namespace odmoe
