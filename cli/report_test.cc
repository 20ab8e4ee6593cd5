#include "cli/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;

TEST(Report, TableAlignsBothColumns) {
  EXPECT_EQ(table({{"a", "1"}, {"long", "200"}}), "  a       1\n  long  200\n");
}

TEST(Report, PlanTellsWhereTheBudgetGoes) {
  const std::string text = plan_text({.budget_bytes = 8ULL << 30,
                                      .dense_bytes = 3ULL << 30,
                                      .kv_bytes = 1ULL << 30,
                                      .arena_bytes = 2ULL << 30,
                                      .buffer_bytes = 512ULL << 20,
                                      .minimum_bytes = 5ULL << 30,
                                      .expert_bytes = 8ULL << 30,
                                      .n_slot = 16,
                                      .n_expert_total = 64});
  EXPECT_THAT(text, HasSubstr("8.00 GiB of at least 5.00 GiB"));
  EXPECT_THAT(text, HasSubstr("experts, 16 of 64 (25 %)"));
  EXPECT_THAT(text, HasSubstr("2.00 GiB"));
}

TEST(Report, WorkTellsSpeedAndHitRate) {
  Stats stats;
  stats.prefill = {.tokens = 10, .seconds = 2};
  stats.decode = {.tokens = 30, .seconds = 3};
  stats.experts.demands = 200;
  stats.experts.hits = 150;
  stats.io.reader = "pread";
  const std::string text = work_text(stats);
  EXPECT_THAT(text, HasSubstr("10 prompt tokens at 5.0/s, 30 tokens at 10.0/s"));
  EXPECT_THAT(text, HasSubstr("75.0 % of 200 experts"));
  EXPECT_THAT(text, HasSubstr("read by pread"));
}

}  // namespace
}  // namespace odmoe::cli
