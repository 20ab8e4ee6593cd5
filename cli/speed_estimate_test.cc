#include "cli/speed_estimate.h"

#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

TEST(SpeedEstimate, IsTheSlowerOfDriveAndMemoryOrBothTogether) {
  const SpeedInputs inputs{.dense_read_bytes = 1'000,
                           .cycle_bytes = 1'000,
                           .memory_bytes_per_second = 20'000,
                           .drive_bytes_per_second = 1'000};
  const Speed some = reading_speed(inputs, .75).value();
  EXPECT_NEAR(some.memory, 10, 1e-9);
  EXPECT_NEAR(some.drive.value(), 4, 1e-9);  // 250 bytes of a thousand a second
  EXPECT_NEAR(some.overlapped(), 4, 1e-9);
  EXPECT_NEAR(some.one_after_the_other(), 1 / (.1 + .25), 1e-9);
  const Speed all = reading_speed(inputs, 1).value();
  EXPECT_FALSE(all.drive.has_value());
  EXPECT_NEAR(all.overlapped(), 10, 1e-9);
  EXPECT_NEAR(all.one_after_the_other(), 10, 1e-9);
}

TEST(SpeedEstimate, ReadsWhatTheKvCacheHolds) {
  const SpeedInputs inputs{.dense_read_bytes = 1'000,
                           .cycle_bytes = 1'000,
                           .state_read_bytes = 2'000,
                           .memory_bytes_per_second = 20'000};
  EXPECT_NEAR(reading_speed(inputs, 1).value().memory, 5, 1e-9);
}

TEST(SpeedEstimate, SaysNothingOfADriveThatIsNotKnown) {
  const SpeedInputs inputs{.dense_read_bytes = 1, .cycle_bytes = 1, .memory_bytes_per_second = 2};
  EXPECT_FALSE(reading_speed(inputs, .5).has_value());
  EXPECT_DOUBLE_EQ(reading_speed(inputs, 1).value().memory, 1);  // it is not needed then
}

TEST(SpeedEstimate, TheShareOfTheExpertsIsWhatTheRestLeaves) {
  MemoryPlan whole;
  whole.budget_bytes = 1'000;
  whole.arena_bytes = 800;
  EXPECT_EQ(expert_share(whole, 100), 0);
  EXPECT_EQ(expert_share(whole, 200), 0);
  EXPECT_EQ(expert_share(whole, 600), .5);
  EXPECT_EQ(expert_share(whole, 1'000), 1);
  EXPECT_EQ(expert_share(whole, 5'000), 1);
}

TEST(SpeedEstimate, MeasuresSomeBandwidthOfLittleAndOfMuch) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1'000'000}, uint64_t{1} << 40U}) {
    for (const int threads : {1, 3}) EXPECT_GT(measure_memory_bandwidth(threads, bytes).value(), 0) << bytes;
  }
}

}  // namespace
}  // namespace odmoe::cli
