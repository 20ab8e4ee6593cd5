#include "model/row_group.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace odmoe {
namespace {

// One evaluation writes its rows before it looks at those of the first token's window.
int64_t window_rows(int64_t window, int64_t context, int64_t chunk) {
  return std::min(RowGroup::padded(window + chunk - 1), RowGroup::padded(context));
}

}  // namespace

bool holds_every_length(const StateLayout& layout) {
  return std::ranges::all_of(layout, [](const std::vector<StateTensor>& layer) {
    return std::ranges::all_of(
        layer, [](const StateTensor& tensor) { return tensor.kind && tensor.kind->window == 0; });
  });
}

RowGroup::RowGroup(const RowKind& kind, int64_t context, int64_t chunk) : kind_(kind) {
  assert(kind.window >= 0 && kind.tokens_per_row >= 1 && (!in_blocks() || kind.window == 0));
  assert(in_blocks() ? kind.made_from >= kind.tokens_per_row : kind.made_from == 0);
  rows_ = kind.window > 0 ? window_rows(kind.window, context, chunk)
                          : padded((context + kind.tokens_per_row - 1) / kind.tokens_per_row);
  if (in_blocks()) source_rows_ = window_rows(kind.made_from, context, chunk);
}

int64_t RowGroup::rows_touched(int64_t length) const {
  return std::min((length + kind_.tokens_per_row - 1) / kind_.tokens_per_row, rows_);
}

int64_t RowGroup::rows_seen(int64_t length) const {
  const int64_t rows = std::max<int64_t>(1, length / kind_.tokens_per_row);
  return std::min((rows + kSeenPadding - 1) / kSeenPadding * kSeenPadding, rows_);
}

int64_t RowGroup::rows_written(int64_t first, int64_t n) const {
  return (first + n - 1) / kind_.tokens_per_row - first / kind_.tokens_per_row + 1;
}

int64_t RowGroup::max_rows_written(int64_t n) const {
  // The first token may be its block's last.
  return (n - 1 + kind_.tokens_per_row - 1) / kind_.tokens_per_row + 1;
}

void RowGroup::fill_rows(int64_t first, int64_t n, std::span<int64_t> rows) const {
  const int64_t n_row = rows_written(first, n);
  const int64_t begin = first / kind_.tokens_per_row;
  for (int64_t i = 0; i < n_row; ++i) rows[static_cast<size_t>(i)] = (begin + i) % rows_;
}

void RowGroup::fill_mask(int64_t first, int64_t n, std::span<ggml_fp16_t> mask) const {
  const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
  const int64_t n_seen = rows_seen(first + n);
  for (int64_t i = 0; i < n; ++i) {
    ggml_fp16_t* of_query = mask.data() + i * n_seen;
    const int64_t query = first + i;
    if (kind_.window == 0) {
      const int64_t visible = (query + 1) / kind_.tokens_per_row;
      std::fill_n(of_query, visible, ggml_fp16_t{0});
      std::fill_n(of_query + visible, n_seen - visible, hidden);
      continue;
    }
    std::fill_n(of_query, n_seen, hidden);
    for (int64_t p = first_needed(query); p <= query; ++p) of_query[p % rows_] = 0;
  }
}

void RowGroup::fill_sources(int64_t first, int64_t n, std::span<int32_t> rows, std::span<float> mask) const {
  const int64_t n_block = rows_written(first, n);
  const int64_t begin = first / kind_.tokens_per_row;
  for (int64_t b = 0; b < n_block; ++b) {
    const int64_t end = (begin + b + 1) * kind_.tokens_per_row;
    for (int64_t i = 0; i < kind_.made_from; ++i) {
      const int64_t position = end - kind_.made_from + i;
      const bool there = position >= 0 && position < first + n;
      const auto at = static_cast<size_t>(b * kind_.made_from + i);
      rows[at] = there ? static_cast<int32_t>(position % source_rows_) : 0;
      mask[at] = there ? 0 : -std::numeric_limits<float>::infinity();
    }
  }
}

void RowGroup::fill_first_positions(int64_t first, int64_t n, std::span<int32_t> positions) const {
  const int64_t n_block = rows_written(first, n);
  const int64_t begin = first / kind_.tokens_per_row;
  for (int64_t b = 0; b < n_block; ++b) {
    positions[static_cast<size_t>(b)] = static_cast<int32_t>((begin + b) * kind_.tokens_per_row);
  }
}

int64_t RowGroup::first_needed(int64_t position) const {
  if (kind_.window == 0) return 0;
  return kind_.aligned ? position / kind_.window * kind_.window
                       : std::max<int64_t>(0, position - kind_.window + 1);
}

int64_t RowGroup::first_kept(int64_t length) const {
  return kind_.window == 0 ? 0 : std::max<int64_t>(0, length - rows_);
}

}  // namespace odmoe
