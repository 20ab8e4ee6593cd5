// How a family's StateLayout becomes memory, for one length of context: types, groups of rows, bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "model/row_group.h"
#include "model/state_layout.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe {

ggml_type cache_ggml_type(CacheType type);

// Immutable; may be copied.
class StatePlan {
 public:
  // Kinds of rows that a model may have.
  static constexpr size_t kMaxGroups = 8;

  struct Options {
    CacheType type = CacheType::kF16;  // of rows that have no type of their own
    int64_t context = 0;               // tokens of a sequence, at most
    int64_t chunk = 0;                 // tokens of an evaluation, at most
    int32_t snapshots = 0;             // of a sequence, where rewinding needs any
    bool transposes = false;           // StateTensor::summed_rows(), in types whose values are each by itself
  };
  struct Tensor {
    int layer = 0;
    size_t number = 0;  // of the layer's tensors
    ggml_type type = GGML_TYPE_F32;
    int64_t values = 0;  // of a row, or all
    bool overwritten = false;
    bool transposed = false;  // [RowGroup::rows(), values]
    size_t group = 0;         // of the rows
    uint64_t row_bytes = 0;   // or of all values
    uint64_t bytes = 0;       // of memory, of one of the two copies of overwritten values
  };

  // kUsage when rows cannot be stored in the type (Q8_0 holds multiples of 32 values).
  static Result<StatePlan> make(const StateLayout& layout, const Options& options);

  const Options& options() const { return options_; }
  const std::vector<RowGroup>& groups() const { return groups_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }  // by layer, then by number
  const Tensor& tensor(int layer, size_t number) const {
    return tensors_[first_of_layer_[static_cast<size_t>(layer)] + number];
  }
  size_t index(const Tensor& tensor) const { return static_cast<size_t>(&tensor - tensors_.data()); }

  bool has_overwritten() const { return has_overwritten_; }
  bool has_transposed() const;
  // holds_every_length() of the layout.
  bool holds_every_length() const { return holds_every_length_; }

  // Memory of one sequence.
  uint64_t bytes() const { return tensor_bytes_ + snapshots_bytes(); }
  uint64_t tensor_bytes() const { return tensor_bytes_; }
  // What each token adds to it.
  uint64_t bytes_per_token() const { return bytes_per_token_; }
  // What of it does not depend on the context.
  uint64_t fixed_bytes() const { return fixed_bytes_ + snapshots_bytes(); }
  // What the tensors of so many tokens, and so many snapshots, make resident, at most: never more than as
  // many rows have and two pages for each tensor, or each value of one that is transposed.
  uint64_t resident_tensor_bytes(int64_t length) const;
  uint64_t resident_snapshot_bytes(int32_t n) const;

  // The state of n tokens is their rows, for tensors whose rows are all kept, and then the tail: the rows of
  // windows that the next token may need, oldest first, and the overwritten values.
  uint64_t rows_bytes(int64_t n) const;
  uint64_t tail_bytes(int64_t n) const;
  uint64_t max_tail_bytes() const;
  int64_t kept_rows(const Tensor& tensor, int64_t n) const;  // of rows_bytes()
  int64_t tail_rows(const Tensor& tensor, int64_t n) const;  // of tail_bytes()

 private:
  size_t add_group(const RowKind& kind);
  uint64_t snapshots_bytes() const {
    return holds_every_length_ ? 0 : max_tail_bytes() * static_cast<uint64_t>(options_.snapshots);
  }

  Options options_;
  std::vector<RowGroup> groups_;
  std::vector<Tensor> tensors_;
  std::vector<size_t> first_of_layer_;
  bool has_overwritten_ = false, holds_every_length_ = true;
  uint64_t tensor_bytes_ = 0, bytes_per_token_ = 0, fixed_bytes_ = 0;
};

}  // namespace odmoe
