#include "server/live_rates.h"

#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

constexpr int64_t kSecond = 1'000'000;

TEST(RateWindow, OneLookTellsNoRate) {
  RateWindow window;
  Stats stats;
  stats.decode.tokens = 100;
  window.add(stats, true, 0);
  EXPECT_FALSE(window.rates().tokens_per_second.has_value());
  EXPECT_FALSE(window.rates().read_bytes_per_second.has_value());
}

TEST(RateWindow, TokensCountPerSecondOfDecodingAndReadsByTheClock) {
  RateWindow window;
  Stats stats;
  window.add(stats, true, 0);
  stats.decode.tokens = 10;
  stats.decode.seconds = 0.5;  // the other half second was somebody's prompt
  stats.prefill.tokens = 40;
  stats.prefill.seconds = 0.4;
  stats.decode.stall_seconds = 0.09;
  stats.prefill.stall_seconds = 0.09;
  stats.io.demand_read_bytes = 300;
  stats.io.prefetch_read_bytes = 100;
  window.add(stats, true, 2 * kSecond);
  EXPECT_DOUBLE_EQ(*window.rates().tokens_per_second, 20);
  EXPECT_DOUBLE_EQ(*window.rates().prefill_tokens_per_second, 100);
  EXPECT_DOUBLE_EQ(*window.rates().stall_share, 0.2);
  EXPECT_DOUBLE_EQ(*window.rates().read_bytes_per_second, 200);
}

TEST(RateWindow, RatesAreOfTheLastSecondsAlone) {
  RateWindow window;
  Stats stats;
  for (int second = 0; second <= 10; ++second) {
    stats.experts.demands += 10;
    stats.experts.hits += second <= 5 ? 0 : 10;
    stats.experts.late_hits += second <= 5 ? 5 : 0;
    window.add(stats, false, second * kSecond);
  }
  EXPECT_DOUBLE_EQ(*window.rates().hit_rate, 1);
  EXPECT_DOUBLE_EQ(*window.rates().late_hit_rate, 0);
}

TEST(RateWindow, WhatNobodyAskedForHasNoRate) {
  RateWindow window;
  Stats stats;
  stats.experts.demands = stats.experts.hits = 7;
  for (int second = 0; second < 3; ++second) window.add(stats, false, second * kSecond);
  EXPECT_FALSE(window.rates().hit_rate.has_value());
  EXPECT_FALSE(window.rates().stall_share.has_value());
  EXPECT_FALSE(window.rates().prefill_tokens_per_second.has_value());
  EXPECT_EQ(window.rates().tokens_per_second, 0);
  EXPECT_EQ(window.rates().read_bytes_per_second, 0);
}

TEST(RateWindow, ASlowModelsSpeedStandsUntilTheNextTokenIsLate) {
  RateWindow window;
  Stats stats;
  window.add(stats, true, 0);
  stats.decode.tokens = 1;
  stats.decode.seconds = 5;  // a token in five seconds
  window.add(stats, true, 5 * kSecond);
  EXPECT_DOUBLE_EQ(*window.rates().tokens_per_second, 0.2);
  for (int second = 6; second <= 9; ++second) window.add(stats, true, second * kSecond);
  EXPECT_DOUBLE_EQ(*window.rates().tokens_per_second, 0.2);
  for (int second = 10; second <= 15; ++second) window.add(stats, true, second * kSecond);
  EXPECT_DOUBLE_EQ(*window.rates().tokens_per_second, 0.1);
  window.add(stats, false, 16 * kSecond);
  EXPECT_EQ(window.rates().tokens_per_second, 0);
}

TEST(RateWindow, ClearForgets) {
  RateWindow window;
  Stats stats;
  window.add(stats, true, 0);
  window.add(stats, true, kSecond);
  window.clear();
  EXPECT_FALSE(window.rates().read_bytes_per_second.has_value());
  window.add(stats, true, 2 * kSecond);
  EXPECT_FALSE(window.rates().read_bytes_per_second.has_value());
}

}  // namespace
}  // namespace odmoe::server
