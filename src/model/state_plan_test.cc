#include "model/state_plan.h"

#include <gtest/gtest.h>

namespace odmoe {
namespace {

StatePlan make(const StateLayout& layout, const StatePlan::Options& options) {
  auto plan = StatePlan::make(layout, options);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return *plan;
}

constexpr StatePlan::Options kOptions{.type = CacheType::kF16, .context = 4096, .chunk = 512, .snapshots = 3};

TEST(StatePlan, RowsOfAllTokensTakeWhatTheContextAsksFor) {
  const StatePlan plan =
      make({{StateTensor::rows(64), StateTensor::rows(32)}, {StateTensor::rows(64)}}, kOptions);
  EXPECT_EQ(plan.bytes_per_token(), (64 + 32 + 64) * 2U);
  EXPECT_EQ(plan.bytes(), 4096U * plan.bytes_per_token());
  EXPECT_EQ(plan.fixed_bytes(), 0U);
  EXPECT_TRUE(plan.holds_every_length());
  EXPECT_EQ(plan.groups().size(), 1U);
  EXPECT_EQ(plan.rows_bytes(100), 100 * plan.bytes_per_token());
  EXPECT_EQ(plan.tail_bytes(100), 0U);
}

TEST(StatePlan, AWindowTakesItsRowsAndNotTheContext) {
  const StateTensor rows = StateTensor::rows(64, {.window = 128});
  StatePlan::Options longer = kOptions;
  longer.context = 1 << 18;
  const StatePlan plan = make({{rows, rows}}, kOptions);
  EXPECT_EQ(plan.bytes(), make({{rows, rows}}, longer).bytes());
  EXPECT_EQ(plan.tensor_bytes(), 768U * 2 * 64 * 2);  // the window and a chunk
  EXPECT_EQ(plan.tail_bytes(1000), 127U * 2 * 64 * 2);
  EXPECT_EQ(plan.tail_bytes(10), 10U * 2 * 64 * 2);
  EXPECT_EQ(plan.bytes() - plan.tensor_bytes(), 3 * plan.tail_bytes(1000));
  EXPECT_EQ(plan.bytes_per_token(), 0U);
  EXPECT_FALSE(plan.holds_every_length());
}

TEST(StatePlan, OverwrittenValuesExistTwiceAndInEachSnapshot) {
  const StatePlan plan = make({{StateTensor::rows(64)}, {StateTensor::overwritten(1000)}}, kOptions);
  EXPECT_EQ(plan.tail_bytes(5), 4000U);
  EXPECT_GE(plan.fixed_bytes(), 5U * 4000);
  EXPECT_LT(plan.fixed_bytes(), 5U * 4000 + 1024);
  EXPECT_TRUE(plan.has_overwritten());
  EXPECT_FALSE(plan.holds_every_length());
}

TEST(StatePlan, BlocksTakeARowForSeveralTokensAndTheWindowTheyAreMadeFrom) {
  const RowKind blocks{.tokens_per_row = 4, .made_from = 8};
  const StatePlan plan =
      make({{StateTensor::rows(64, {.window = 8}), StateTensor::rows(64, blocks)}}, kOptions);
  ASSERT_EQ(plan.groups().size(), 2U);
  EXPECT_EQ(plan.bytes_per_token(), 64U * 2 / 4);
  EXPECT_EQ(plan.rows_bytes(103), 25U * 64 * 2);
}

TEST(StatePlan, ResidentBytesGrowWithTokensAndSnapshotsUpToAllOfThem) {
  const StatePlan plan = make(
      {{StateTensor::rows(64)}, {StateTensor::rows(64, {.window = 128})}, {StateTensor::overwritten(5000)}},
      kOptions);
  EXPECT_EQ(plan.resident_tensor_bytes(0), 0U);
  uint64_t last = 0;
  for (const int64_t length : {1, 300, 1000, 4096}) {
    EXPECT_GT(plan.resident_tensor_bytes(length), last);
    last = plan.resident_tensor_bytes(length);
  }
  const uint64_t page = 65536;  // or less
  EXPECT_GE(last, plan.tensor_bytes());
  EXPECT_LE(last, plan.tensor_bytes() + 8 * page);
  EXPECT_EQ(plan.resident_snapshot_bytes(0), 0U);
  EXPECT_GE(plan.resident_snapshot_bytes(3), plan.bytes() - plan.tensor_bytes());
}

TEST(StatePlan, RowsThatAreSummedAreTransposedWhereTheTypeAllowsIt) {
  StatePlan::Options options = kOptions;
  options.transposes = true;
  const StateLayout layout = {{StateTensor::rows(64), StateTensor::summed_rows(64)}};
  const StatePlan plan = make(layout, options);
  EXPECT_TRUE(plan.has_transposed());
  EXPECT_FALSE(plan.tensor(0, 0).transposed);
  EXPECT_TRUE(plan.tensor(0, 1).transposed);
  EXPECT_EQ(plan.bytes(), make(layout, kOptions).bytes());
  EXPECT_FALSE(make(layout, kOptions).has_transposed());
  options.type = CacheType::kQ8_0;
  EXPECT_FALSE(make(layout, options).has_transposed()) << "blocks of Q8_0 lie along a row";
}

TEST(StatePlan, EachValueOfTransposedRowsBecomesResidentByPages) {
  StatePlan::Options options = kOptions;
  options.transposes = true;
  options.context = 1 << 17;
  const StatePlan plan = make({{StateTensor::summed_rows(64)}}, options);
  EXPECT_GE(plan.resident_tensor_bytes(1), 64U * 4096);
  EXPECT_LT(plan.resident_tensor_bytes(1), plan.tensor_bytes());
  EXPECT_GE(plan.resident_tensor_bytes(1 << 17), plan.tensor_bytes());
  EXPECT_LE(plan.resident_tensor_bytes(1 << 17), plan.tensor_bytes() + 2 * 65536);
}

TEST(StatePlan, RowsThatTheTypeCannotHoldAreRefused) {
  StatePlan::Options options = kOptions;
  options.type = CacheType::kQ8_0;
  const auto plan = StatePlan::make({{StateTensor::rows(48)}}, options);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().kind, ErrorKind::kUsage);
  EXPECT_TRUE(plan.error().message.contains("rows of 48 values cannot be stored as q8_0; use f16"))
      << plan.error().message;
  EXPECT_TRUE(StatePlan::make({{StateTensor::rows(48, {}, GGML_TYPE_F32)}}, options).has_value());
}

}  // namespace
}  // namespace odmoe
