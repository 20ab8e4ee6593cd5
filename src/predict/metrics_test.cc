#include "predict/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

namespace odmoe {
namespace {

using ::testing::ElementsAre;

// Eight experts, of which five are chosen; a guess in the order 0, 1, 2, ... unless said otherwise.
constexpr std::array kFalling = {8.0F, 7.0F, 6.0F, 5.0F, 4.0F, 3.0F, 2.0F, 1.0F};

TEST(PredictionMetrics, AGuessThatIsTheRoutersOwnOrderReadsOne) {
  PredictionMetrics metrics(1, 1, 8, 5);
  metrics.add(0, 1, kFalling, false, std::array{0, 1, 2, 3, 4}, std::array{5.F, 4.F, 3.F, 2.F, 1.F});
  const PredictionCell& cell = metrics.cell(0, 1);
  EXPECT_THAT(cell.ks, ElementsAre(1, 4, 5));
  for (size_t i = 0; i < cell.ks.size(); ++i) EXPECT_DOUBLE_EQ(cell.recall(i), 1) << cell.ks[i];
  EXPECT_DOUBLE_EQ(cell.recall(), 1);
  EXPECT_DOUBLE_EQ(cell.weight_share(), 1);
}

TEST(PredictionMetrics, RecallComparesTheFirstKOfBoth) {
  PredictionMetrics metrics(1, 1, 8, 5);
  // First 1: {0} against {4}; first 4: {0 1 2 3} against {4 0 6 2}; first 5: {0 .. 4} against {4 0 6 2 7}.
  metrics.add(0, 1, kFalling, false, std::array{4, 0, 6, 2, 7}, std::array{.5F, .2F, .1F, .1F, .1F});
  const PredictionCell& cell = metrics.cell(0, 1);
  EXPECT_DOUBLE_EQ(cell.recall(0), 0);
  EXPECT_DOUBLE_EQ(cell.recall(1), 2.0 / 4);
  EXPECT_DOUBLE_EQ(cell.recall(2), 3.0 / 5);
  EXPECT_NEAR(cell.weight_share(), 0.8, 1e-6);  // experts 4, 0 and 2
}

TEST(PredictionMetrics, PrecisionAndCoverageAreOfSoManyHints) {
  PredictionMetrics metrics(1, 1, 8, 2);
  metrics.add(0, 1, kFalling, false, std::array{1, 5}, std::array{.75F, .25F});
  const PredictionCell& cell = metrics.cell(0, 1);
  ASSERT_EQ(PredictionCell::kHints[1], 2);
  ASSERT_EQ(PredictionCell::kHints[3], 8);
  EXPECT_DOUBLE_EQ(cell.precision(0), 0);
  EXPECT_DOUBLE_EQ(cell.precision(1), 1.0 / 2);
  EXPECT_DOUBLE_EQ(cell.precision(3), 2.0 / 8);
  EXPECT_DOUBLE_EQ(cell.coverage(1), 1.0 / 2);
  EXPECT_DOUBLE_EQ(cell.coverage(3), 1);
  EXPECT_DOUBLE_EQ(cell.weight_coverage(1), 0.75);
  EXPECT_DOUBLE_EQ(cell.weight_coverage(3), 1);
}

TEST(PredictionMetrics, RoutingsAddUp) {
  PredictionMetrics metrics(2, 2, 8, 1);
  const std::array<float, 1> weight = {1};
  metrics.add(0, 1, kFalling, false, std::array{0}, weight);
  metrics.add(0, 1, kFalling, false, std::array{3}, weight);
  metrics.add(1, 1, kFalling, false, std::array{0}, weight);
  metrics.add(1, 2, kFalling, false, std::array{7}, weight);
  EXPECT_DOUBLE_EQ(metrics.cell(0, 1).recall(), 1.0 / 2);
  EXPECT_DOUBLE_EQ(metrics.cell(1, 1).recall(), 1);
  EXPECT_DOUBLE_EQ(metrics.total(1).recall(), 2.0 / 3);
  EXPECT_EQ(metrics.total(1).routings, 3);
  EXPECT_EQ(metrics.total(1, 1).routings, 1);
  EXPECT_DOUBLE_EQ(metrics.total(2).recall(), 0);
  EXPECT_EQ(metrics.cell(0, 2).routings, 0);
  EXPECT_DOUBLE_EQ(metrics.cell(0, 2).recall(), 0);
}

TEST(PredictionMetrics, CalibrationErrorIsTheGapWithinEachTenth) {
  PredictionMetrics metrics(1, 1, 4, 1);
  // Probabilities 0.75, 0.25, 0.25, 0.25; expert 0 is chosen in two of three.
  const float three = std::log(3.0F);
  const std::array scores = {three, -three, -three, -three};
  const std::array<float, 1> weight = {1};
  metrics.add(0, 1, scores, true, std::array{0}, weight);
  metrics.add(0, 1, scores, true, std::array{0}, weight);
  metrics.add(0, 1, scores, true, std::array{2}, weight);
  // Of three at 0.75 two were chosen, of nine at 0.25 one: (|2 - 2.25| + |1 - 2.25|) / 12.
  EXPECT_NEAR(metrics.cell(0, 1).calibration_error(), 1.5 / 12, 1e-6);
  EXPECT_EQ(metrics.cell(0, 1).probabilities[7].experts, 3);
  EXPECT_EQ(metrics.cell(0, 1).probabilities[7].chosen, 2);
  EXPECT_EQ(metrics.cell(0, 1).probabilities[2].experts, 9);
  EXPECT_EQ(metrics.cell(0, 1).probabilities[2].chosen, 1);
}

TEST(PredictionMetrics, WithoutProbabilitiesThereIsNoCalibrationError) {
  PredictionMetrics metrics(1, 1, 8, 1);
  metrics.add(0, 1, kFalling, false, std::array{3}, std::array{1.0F});
  EXPECT_DOUBLE_EQ(metrics.cell(0, 1).calibration_error(), 0);
}

}  // namespace
}  // namespace odmoe
