#include "predict/rank_calibration.h"

#include <gtest/gtest.h>

#include <array>

namespace odmoe {
namespace {

TEST(RankCalibration, StartsAtChance) {
  const RankCalibration calibration(2, 8, 64, 8);
  EXPECT_DOUBLE_EQ(calibration.probability(1, 0), 0.125);
  EXPECT_DOUBLE_EQ(calibration.probability(2, 7), 0.125);
}

TEST(RankCalibration, LearnsHowOftenARankIsRight) {
  RankCalibration calibration(1, 2, 10, 1);
  constexpr std::array ranked = {3, 5};
  constexpr std::array first = {3}, second = {5};
  for (int i = 0; i < 300; ++i) {
    calibration.observe(1, ranked, i % 3 == 2 ? second : first);
  }
  EXPECT_NEAR(calibration.probability(1, 0), 2.0 / 3, 0.02);
  EXPECT_NEAR(calibration.probability(1, 1), 1.0 / 3, 0.02);
}

TEST(RankCalibration, DistancesAreApart) {
  RankCalibration calibration(2, 1, 10, 1);
  constexpr std::array ranked = {3};
  for (int i = 0; i < 100; ++i) calibration.observe(2, ranked, ranked);
  EXPECT_DOUBLE_EQ(calibration.probability(1, 0), 0.1);
  EXPECT_GT(calibration.probability(2, 0), 0.9);
}

TEST(RankCalibration, NeverRisesWithTheRank) {
  RankCalibration calibration(1, 3, 10, 1);
  constexpr std::array ranked = {1, 2, 3}, chosen = {3, 4, 5};
  for (int i = 0; i < 50; ++i) calibration.observe(1, ranked, chosen);
  EXPECT_LE(calibration.probability(1, 2), calibration.probability(1, 1));
  EXPECT_EQ(calibration.probability(1, 3), 0);  // beyond the list
}

TEST(RankCalibration, OldObservationsFade) {
  RankCalibration calibration(1, 1, 10, 1);
  constexpr std::array ranked = {1}, other = {2};
  for (int i = 0; i < 20'000; ++i) calibration.observe(1, ranked, ranked);
  for (int i = 0; i < 20'000; ++i) calibration.observe(1, ranked, other);
  // Equal counts without fading would read one half.
  EXPECT_LT(calibration.probability(1, 0), 0.36);
}

}  // namespace
}  // namespace odmoe
