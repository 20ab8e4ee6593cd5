#include "predict/predictor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace odmoe {
namespace {

using ::testing::ElementsAre;

TEST(BestExperts, AreInFallingOrderOfScore) {
  constexpr std::array scores = {0.5F, -1.0F, 2.0F, 1.5F, -3.0F};
  std::vector<int32_t> best(3);
  best_experts(scores, best);
  EXPECT_THAT(best, ElementsAre(2, 3, 0));
}

TEST(BestExperts, TiesGoToTheLowerNumber) {
  constexpr std::array scores = {1.0F, 2.0F, 2.0F, 1.0F, 2.0F};
  std::vector<int32_t> best(4);
  best_experts(scores, best);
  EXPECT_THAT(best, ElementsAre(1, 2, 4, 0));
}

TEST(BestExperts, MoreRoomThanExpertsLeavesTheRestAlone) {
  constexpr std::array scores = {1.0F, 2.0F};
  std::vector<int32_t> best = {-1, -1, -1};
  best_experts(scores, best);
  EXPECT_THAT(best, ElementsAre(1, 0, -1));
}

}  // namespace
}  // namespace odmoe
