#include "cli/time_left.h"

#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

class HandClock final : public Clock {
 public:
  int64_t now_us() const override { return now_us_; }
  int64_t now_us_ = 5;
};

constexpr uint64_t kMega = uint64_t{1} << 20U;

TEST(TimeLeft, IsWhatRemainsAtTheSpeedSoFar) {
  HandClock clock;
  const TimeLeft time(0, clock);
  EXPECT_EQ(time.text(0, 100 * kMega), "0 B of 100 MiB");
  clock.now_us_ += 2'000'000;
  EXPECT_EQ(time.text(10 * kMega, 100 * kMega), "10.0 MiB of 100 MiB, 0:18 left");
  EXPECT_EQ(time.text(10 * kMega, 100 * kMega, true), "10.0 MiB of 100 MiB, 5.00 MiB/s, 0:18 left");
  EXPECT_EQ(time.text(kMega, 5000 * kMega), "1.00 MiB of 4.88 GiB, 2:46:38 left");
}

TEST(TimeLeft, WhatWasThereBeforeDoesNotCount) {
  HandClock clock;
  const TimeLeft time(50 * kMega, clock);
  clock.now_us_ += 1'000'000;
  EXPECT_EQ(time.text(50 * kMega, 100 * kMega, true), "50.0 MiB of 100 MiB");
  EXPECT_EQ(time.text(51 * kMega, 100 * kMega, true), "51.0 MiB of 100 MiB, 1.00 MiB/s, 0:49 left");
}

}  // namespace
}  // namespace odmoe::cli
