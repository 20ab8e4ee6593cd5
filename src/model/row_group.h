// Rows of one kind: where a position's row is, and who sees it.  Numbers only, no memory.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <span>

#include "model/state_layout.h"

namespace odmoe {

// Immutable.  Positions count from the sequence's first token.  An evaluation is of n tokens at positions
// first, first + 1, ..., at most as many as the group was made for.
class RowGroup {
 public:
  // Rows are kept in multiples of this.
  static constexpr int64_t kPadding = 256;
  // And looked at in multiples of this, so that graphs are built for few lengths while not many rows are
  // looked at that nobody sees: one token's products go over all of them.
  static constexpr int64_t kSeenPadding = 128;
  static_assert(kPadding % kSeenPadding == 0);
  static int64_t padded(int64_t rows) { return (rows + kPadding - 1) / kPadding * kPadding; }

  // For sequences of at most `context` tokens, evaluated at most `chunk` at a time.
  RowGroup(const RowKind& kind, int64_t context, int64_t chunk);

  const RowKind& kind() const { return kind_; }
  bool in_blocks() const { return kind_.tokens_per_row > 1; }
  // Rows of a tensor.  Those of a window are used over and over: position p is in row p % rows().
  int64_t rows() const { return rows_; }
  // Rows that `length` tokens have touched.
  int64_t rows_touched(int64_t length) const;

  // Rows, from the first, that an evaluation which ends with `length` tokens looks at: a multiple of
  // kSeenPadding.
  int64_t rows_seen(int64_t length) const;
  // Rows that an evaluation writes: one for each token, or for each block that has one of them.
  int64_t rows_written(int64_t first, int64_t n) const;
  int64_t max_rows_written(int64_t n) const;

  // The rows of positions [first, first + n), or of their blocks: rows_written() values.
  void fill_rows(int64_t first, int64_t n, std::span<int64_t> rows) const;
  // [rows_seen(first + n), n]: 0 where the query sees the row, else -infinity.
  void fill_mask(int64_t first, int64_t n, std::span<ggml_fp16_t> mask) const;
  // Of blocks, [made_from, rows_written()]: for each block what it is made from, as rows of the group
  // sources(); and 0 where there is a token, else -infinity (and any row).
  void fill_sources(int64_t first, int64_t n, std::span<int32_t> rows, std::span<float> mask) const;
  // Of blocks, [rows_written()]: the position of each block's first token.
  void fill_first_positions(int64_t first, int64_t n, std::span<int32_t> positions) const;
  RowKind source_kind() const { return {.window = kind_.made_from}; }

  // The first position that a query at `position` sees or needs otherwise.
  int64_t first_needed(int64_t position) const;
  // Whether an evaluation that ends with `length` tokens has overwritten rows of positions before this one.
  int64_t first_kept(int64_t length) const;

 private:
  RowKind kind_;
  int64_t rows_ = 0;
  int64_t source_rows_ = 0;  // of the group source_kind()
};

}  // namespace odmoe
