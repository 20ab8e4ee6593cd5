#include "cli/speed_estimate.h"

#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

TEST(SpeedEstimate, HitsMoreTheMoreFits) {
  EXPECT_EQ(expected_hit_rate(0), 0);
  EXPECT_EQ(expected_hit_rate(1), 1);
  EXPECT_DOUBLE_EQ(expected_hit_rate(.25), .768);
  EXPECT_NEAR(expected_hit_rate(.375), (.768 + .877) / 2, 1e-9);
  for (double share = 0; share < 1; share += .01) {
    EXPECT_LT(expected_hit_rate(share), expected_hit_rate(share + .01));
  }
}

TEST(SpeedEstimate, IsTheSlowerOfDriveAndMemory) {
  SpeedInputs inputs{.dense_read_bytes = 1'000,
                     .cycle_bytes = 1'000,
                     .memory_bytes_per_second = 20'000,
                     .drive_bytes_per_second = 1'000};
  EXPECT_NEAR(*roofline_tokens_per_second(inputs, .25), 1'000 / (1'000 * (1 - .768)), 1e-9);
  EXPECT_NEAR(*roofline_tokens_per_second(inputs, 1), 10, 1e-9);
}

TEST(SpeedEstimate, SaysNothingOfADriveThatIsNotKnown) {
  const SpeedInputs inputs{.dense_read_bytes = 1, .cycle_bytes = 1, .memory_bytes_per_second = 2};
  EXPECT_FALSE(roofline_tokens_per_second(inputs, .5).has_value());
  EXPECT_DOUBLE_EQ(*roofline_tokens_per_second(inputs, 1), 1);  // it is not needed then
}

TEST(SpeedEstimate, MeasuresSomeBandwidthOfLittleAndOfMuch) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1'000'000}, uint64_t{1} << 40U}) {
    for (const int threads : {1, 3}) EXPECT_GT(measure_memory_bandwidth(threads, bytes).value(), 0) << bytes;
  }
}

}  // namespace
}  // namespace odmoe::cli
