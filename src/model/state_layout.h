// What a sequence remembers of its tokens, as a family declares it (Architecture::state()): for each layer a
// list of tensors, which the family's graph finds again by layer and number.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace odmoe {

// Which tokens have rows, and which of the rows a query sees.  Tensors of equal kinds share row numbers and
// masks.
struct RowKind {
  // A query sees so many positions, its own the last; 0: all up to its own.
  int64_t window = 0;
  // Of the window's positions only those since the last multiple of it: chunked attention, as in Llama 4.
  bool aligned = false;
  // A row stands for a block of so many tokens, and is seen from the block's last token on.
  int64_t tokens_per_row = 1;
  // Of blocks: what their rows are made from, so many positions up to the block's last, is kept in rows of a
  // window of as many.  At least tokens_per_row.
  int64_t made_from = 0;
  bool operator==(const RowKind&) const = default;
};

// One tensor of a layer.
struct StateTensor {
  // Rows of `row_values` values.  Without a type they have that of the KV cache.
  static StateTensor rows(int64_t row_values, const RowKind& kind = {}, std::optional<ggml_type> type = {}) {
    return {.values = row_values, .kind = kind, .type = type, .summed = false};
  }
  // F32 values, zero before the first token, of which every evaluation reads the old and writes the new ones:
  // the state of a convolution or a recurrence.
  static StateTensor overwritten(int64_t n_value) {
    return {.values = n_value, .kind = std::nullopt, .type = GGML_TYPE_F32, .summed = false};
  }

  // Rows that a query adds up with its weights of them. Where the plan says so they are kept transposed, the
  // rows of one value after the other: a product with the weights runs along them then.
  static StateTensor summed_rows(int64_t row_values, const RowKind& kind = {}) {
    StateTensor tensor = rows(row_values, kind);
    tensor.summed = true;
    return tensor;
  }

  int64_t values = 0;
  std::optional<RowKind> kind;  // none: overwritten
  std::optional<ggml_type> type;
  bool summed = false;
};

using StateLayout = std::vector<std::vector<StateTensor>>;  // by layer

// Whether the state of n tokens has in it that of any fewer: not where there are windows or overwritten
// values.
bool holds_every_length(const StateLayout& layout);

}  // namespace odmoe
