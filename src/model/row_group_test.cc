#include "model/row_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace odmoe {
namespace {

// Plays a sequence that is evaluated n tokens at a time, and says which position each row holds.
class Sequence {
 public:
  explicit Sequence(const RowGroup& group) : group_(group) {}

  // For each query of the next n tokens the blocks (positions, where rows are of one token) that it sees.
  std::vector<std::vector<int64_t>> evaluate(int64_t n) {
    const int64_t per_row = group_.kind().tokens_per_row;
    std::vector<int64_t> rows(static_cast<size_t>(group_.max_rows_written(n)), -1);
    group_.fill_rows(length_, n, rows);
    const int64_t n_row = group_.rows_written(length_, n);
    EXPECT_LE(n_row, group_.max_rows_written(n));
    for (int64_t i = 0; i < n_row; ++i) {
      EXPECT_LT(rows[static_cast<size_t>(i)], group_.rows());
      held_[rows[static_cast<size_t>(i)]] = length_ / per_row + i;
    }
    const int64_t n_seen = group_.rows_seen(length_ + n);
    EXPECT_LE(n_seen, group_.rows());
    std::vector<ggml_fp16_t> mask(static_cast<size_t>(n_seen * n));
    group_.fill_mask(length_, n, mask);
    std::vector<std::vector<int64_t>> seen(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t row = 0; row < n_seen; ++row) {
        const float value = ggml_fp16_to_fp32(mask[static_cast<size_t>(i * n_seen + row)]);
        EXPECT_TRUE(value == 0 || std::isinf(value));
        if (value == 0) seen[static_cast<size_t>(i)].push_back(held_.at(row));
      }
      std::ranges::sort(seen[static_cast<size_t>(i)]);
    }
    length_ += n;
    return seen;
  }
  int64_t length() const { return length_; }

 private:
  const RowGroup& group_;
  std::map<int64_t, int64_t> held_;
  int64_t length_ = 0;
};

std::vector<int64_t> range(int64_t first, int64_t end) {
  std::vector<int64_t> values;
  for (; first < end; ++first) values.push_back(first);
  return values;
}

constexpr int64_t kContext = 2000;
constexpr int64_t kDivision[] = {1, 7, 32, 32, 3, 1, 1, 32, 31, 32, 32, 32, 1, 5};

// Calls check(query, what it sees) for each token of a text that is evaluated in pieces of many sizes.
template <typename Check>
void each_query(const RowGroup& group, const Check& check) {
  Sequence sequence(group);
  for (size_t i = 0; sequence.length() + 32 <= 1500; ++i) {
    const int64_t first = sequence.length();
    const auto seen = sequence.evaluate(kDivision[i % std::size(kDivision)]);
    for (size_t q = 0; q < seen.size(); ++q) check(first + static_cast<int64_t>(q), seen[q]);
  }
}

TEST(RowGroup, AllRowsAreSeenUpToTheQuery) {
  const RowGroup group({}, kContext, 32);
  EXPECT_EQ(group.rows(), 2048);
  each_query(group, [](int64_t query, const auto& seen) { ASSERT_EQ(seen, range(0, query + 1)); });
}

TEST(RowGroup, AWindowIsSeenThoughRowsAreUsedAgain) {
  for (const int64_t window : {1, 20, 225, 300}) {
    const RowGroup group({.window = window}, kContext, 32);
    EXPECT_LT(group.rows(), 1024);
    each_query(group, [&](int64_t query, const auto& seen) {
      ASSERT_EQ(seen, range(std::max<int64_t>(0, query - window + 1), query + 1)) << window;
    });
  }
}

TEST(RowGroup, AnAlignedWindowBeginsAtAMultiple) {
  const RowGroup group({.window = 100, .aligned = true}, kContext, 32);
  each_query(group,
             [](int64_t query, const auto& seen) { ASSERT_EQ(seen, range(query / 100 * 100, query + 1)); });
}

TEST(RowGroup, AWindowTakesNoMoreRowsThanTheContext) {
  EXPECT_EQ(RowGroup({.window = 4096}, 300, 512).rows(), 512);
  EXPECT_EQ(RowGroup({.window = 128}, 1 << 20, 512).rows(), 768);
}

TEST(RowGroup, ABlockIsSeenOnceItsLastTokenIsThere) {
  const RowGroup group({.tokens_per_row = 4, .made_from = 8}, kContext, 32);
  EXPECT_EQ(group.rows(), 512);
  each_query(group, [](int64_t query, const auto& seen) { ASSERT_EQ(seen, range(0, (query + 1) / 4)); });
}

TEST(RowGroup, BlocksAreMadeFromTheTokensThatAreThere) {
  const RowGroup group({.tokens_per_row = 4, .made_from = 6}, kContext, 32);
  const RowGroup sources(group.source_kind(), kContext, 32);
  for (const auto& [first, n] : {std::pair<int64_t, int64_t>{0, 1}, {0, 9}, {3, 1}, {5, 2}, {1003, 14}}) {
    const int64_t n_block = group.rows_written(first, n);
    std::vector<int32_t> rows(static_cast<size_t>(6 * n_block));
    std::vector<float> mask(rows.size());
    group.fill_sources(first, n, rows, mask);
    std::vector<int32_t> positions(static_cast<size_t>(n_block));
    group.fill_first_positions(first, n, positions);
    for (int64_t b = 0; b < n_block; ++b) {
      const int64_t end = (first / 4 + b + 1) * 4;
      EXPECT_EQ(positions[static_cast<size_t>(b)], end - 4);
      for (int64_t i = 0; i < 6; ++i) {
        const int64_t position = end - 6 + i;
        const auto at = static_cast<size_t>(6 * b + i);
        if (position >= 0 && position < first + n) {
          EXPECT_EQ(mask[at], 0);
          EXPECT_EQ(rows[at], position % sources.rows());
        } else {
          EXPECT_TRUE(std::isinf(mask[at])) << position;
          EXPECT_LT(rows[at], sources.rows());
        }
      }
    }
  }
}

TEST(RowGroup, SaysWhichPositionsAreLost) {
  const RowGroup window({.window = 20}, kContext, 32);
  EXPECT_EQ(window.rows(), 256);
  EXPECT_EQ(window.first_kept(256), 0);
  EXPECT_EQ(window.first_kept(300), 44);
  EXPECT_EQ(window.first_needed(10), 0);
  EXPECT_EQ(window.first_needed(100), 81);
  EXPECT_EQ(RowGroup({}, kContext, 32).first_kept(1999), 0);
}

}  // namespace
}  // namespace odmoe
