#include "model/state_plan.h"

#include <unistd.h>

#include <algorithm>

#include "backend/backend.h"
#include "base/units.h"

namespace odmoe {
namespace {

// That so many bytes lie in, which do not begin on a page.
uint64_t pages(uint64_t bytes) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return round_up(bytes, page) + page;
}

}  // namespace

ggml_type cache_ggml_type(CacheType type) {
  switch (type) {
    case CacheType::kF16:
      return GGML_TYPE_F16;
    case CacheType::kBF16:
      return GGML_TYPE_BF16;
    case CacheType::kQ8_0:
      return GGML_TYPE_Q8_0;
    case CacheType::kF32:
      return GGML_TYPE_F32;
  }
  return GGML_TYPE_F16;
}

Result<StatePlan> StatePlan::make(const StateLayout& layout, const Options& options) {
  StatePlan plan;
  plan.options_ = options;
  plan.holds_every_length_ = odmoe::holds_every_length(layout);
  for (size_t layer = 0; layer < layout.size(); ++layer) {
    plan.first_of_layer_.push_back(plan.tensors_.size());
    for (const StateTensor& declared : layout[layer]) {
      Tensor tensor{.layer = static_cast<int>(layer),
                    .number = plan.tensors_.size() - plan.first_of_layer_.back(),
                    .type = declared.type.value_or(cache_ggml_type(options.type)),
                    .values = declared.values,
                    .overwritten = !declared.kind};
      tensor.transposed = options.transposes && declared.summed && ggml_blck_size(tensor.type) == 1;
      if (tensor.values % ggml_blck_size(tensor.type) != 0) {
        return fail(ErrorKind::kUsage,
                    "this model's KV cache rows of {} values cannot be stored as {}; use f16", tensor.values,
                    ggml_type_name(tensor.type));
      }
      tensor.row_bytes = ggml_row_size(tensor.type, tensor.values);
      tensor.bytes = round_up(tensor.row_bytes, kTensorAlignment);
      if (tensor.overwritten) {
        plan.has_overwritten_ = true;
        plan.fixed_bytes_ += 2 * tensor.bytes;
        plan.tensor_bytes_ += 2 * tensor.bytes;
      } else {
        const RowKind& kind = *declared.kind;
        tensor.group = plan.add_group(kind);
        if (kind.tokens_per_row > 1) plan.add_group({.window = kind.made_from});
        const auto rows = [&](int64_t n) {
          return round_up(tensor.row_bytes * static_cast<uint64_t>(n), kTensorAlignment);
        };
        tensor.bytes = rows(plan.groups_[tensor.group].rows());
        plan.tensor_bytes_ += tensor.bytes;
        if (kind.window > 0) {
          plan.fixed_bytes_ += tensor.bytes;
        } else {
          plan.bytes_per_token_ +=
              rows(RowGroup::kPadding) / RowGroup::kPadding / static_cast<uint64_t>(kind.tokens_per_row);
        }
      }
      plan.tensors_.push_back(tensor);
    }
  }
  if (plan.groups_.size() > kMaxGroups) {
    return fail(ErrorKind::kUnsupported, "{} kinds of rows in one model; at most {} are supported",
                plan.groups_.size(), kMaxGroups);
  }
  return plan;
}

size_t StatePlan::add_group(const RowKind& kind) {
  const auto found = std::ranges::find(groups_, kind, &RowGroup::kind);
  if (found == groups_.end()) {
    groups_.emplace_back(kind, options_.context, options_.chunk);
    return groups_.size() - 1;
  }
  return static_cast<size_t>(found - groups_.begin());
}

uint64_t StatePlan::resident_tensor_bytes(int64_t length) const {
  if (length == 0) return 0;
  uint64_t bytes = 0;
  for (const Tensor& tensor : tensors_) {
    if (tensor.overwritten) {
      bytes += 2 * pages(tensor.row_bytes);
      continue;
    }
    const RowGroup& group = groups_[tensor.group];
    const auto rows =
        static_cast<uint64_t>(std::min(RowGroup::padded(group.rows_touched(length)), group.rows()));
    if (tensor.transposed) {
      const uint64_t of_value = pages(rows * ggml_type_size(tensor.type));
      bytes += std::min(static_cast<uint64_t>(tensor.values) * of_value, pages(tensor.bytes));
    } else {
      bytes += pages(tensor.row_bytes * rows);
    }
  }
  return bytes;
}

bool StatePlan::has_transposed() const { return std::ranges::any_of(tensors_, &Tensor::transposed); }

uint64_t StatePlan::resident_snapshot_bytes(int32_t n) const {
  return static_cast<uint64_t>(n) * pages(max_tail_bytes());
}

int64_t StatePlan::kept_rows(const Tensor& tensor, int64_t n) const {
  if (tensor.overwritten) return 0;
  const RowKind& kind = groups_[tensor.group].kind();
  return kind.window > 0 ? 0 : n / kind.tokens_per_row;
}

int64_t StatePlan::tail_rows(const Tensor& tensor, int64_t n) const {
  if (tensor.overwritten) return 0;
  const RowKind& kind = groups_[tensor.group].kind();
  return kind.window > 0 ? std::min(n, kind.window - 1) : 0;
}

uint64_t StatePlan::rows_bytes(int64_t n) const {
  uint64_t bytes = 0;
  for (const Tensor& tensor : tensors_)
    bytes += tensor.row_bytes * static_cast<uint64_t>(kept_rows(tensor, n));
  return bytes;
}

uint64_t StatePlan::tail_bytes(int64_t n) const {
  uint64_t bytes = 0;
  for (const Tensor& tensor : tensors_) {
    bytes += tensor.overwritten ? tensor.row_bytes
                                : tensor.row_bytes * static_cast<uint64_t>(tail_rows(tensor, n));
  }
  return bytes;
}

uint64_t StatePlan::max_tail_bytes() const { return tail_bytes(options_.context); }

}  // namespace odmoe
