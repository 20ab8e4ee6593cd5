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

TEST(Report, ADevicesMemoryIsToldBesideTheHosts) {
  MemoryPlan plan;
  EXPECT_THAT(plan_text(plan), Not(HasSubstr("own memory")));
  plan.device = {.name = "GPU0",
                 .available_bytes = 900ULL << 20,
                 .dense_bytes = 300ULL << 20,
                 .arena_bytes = 400ULL << 20,
                 .n_slot = 12,
                 .minimum_bytes = 350ULL << 20};
  EXPECT_THAT(plan_text(plan),
              HasSubstr("of GPU0's own memory, 700 MiB of at least 350 MiB, 900 MiB may be taken\n"));
  EXPECT_THAT(plan_text(plan), HasSubstr("experts, 12    400 MiB\n"));
}

TEST(Report, WorkTellsWhatADeviceAndTheHostExchanged) {
  Stats stats;
  stats.memory.device = {.name = "GPU0", .arena_bytes = 1024};
  stats.decode = {.tokens = 4, .steps = 2, .seconds = 1};
  stats.decode.device = {
      .graphs = 14, .operations = 40, .waits = 12, .sent_bytes = 8192, .fetched_bytes = 4096};
  EXPECT_THAT(work_text(stats), Not(HasSubstr("of that for each layer")));
  stats.decode.device_layers = {.graphs = 12,
                                .sent_bytes = 6144,
                                .fetched_bytes = 3072,
                                .exchange_us = 60,
                                .launch_us = 120,
                                .wait_us = 1800};
  stats.decode.layers = 6;
  stats.device_experts = {
      .hits = 9, .copies = 3, .copied_bytes = 2048, .evictions = 2, .evicted_to_host = 1, .resident = 8};
  const std::string text = work_text(stats);
  EXPECT_THAT(text,
              HasSubstr("for each step GPU0 got 20 operations in 7 graphs and 4.00 KiB from the host, gave "
                        "back 2.00 KiB, and was waited for 6 times\n"));
  EXPECT_THAT(
      text, HasSubstr("of that for each layer of experts 2.0 graphs, 1.00 KiB there and 512 B back: 10 us to "
                      "exchange them, 20 us to launch, 300 us to wait\n"));
  EXPECT_THAT(
      text, HasSubstr("9 of 12 experts that were wanted were on GPU0, which has 8 now; 2.00 KiB were copied "
                      "there from the host, 2 made room, of which 1 were still on the host\n"));
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
