#include "train/learning_curve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe {
namespace {

using ::testing::HasSubstr;

TEST(LearningCurve, HasALineForTheLossAndOnePerLookahead) {
  const std::vector<TrainedEpoch> epochs = {
      {.first_source = 0, .last_source = 0, .epoch = 1, .loss = 0.5, .recall = {0.5, 0.4}},
      {.first_source = 0, .last_source = 0, .epoch = 2, .loss = 0.3, .recall = {0.8, 0.6}},
      {.first_source = 1, .last_source = 1, .epoch = 1, .loss = 0.4, .recall = {0.7}}};
  const std::string svg = learning_curve(epochs);
  EXPECT_THAT(svg, ::testing::StartsWith("<svg"));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
  size_t lines = 0;
  for (size_t at = 0; (at = svg.find("<polyline", at)) != std::string::npos; ++at) ++lines;
  EXPECT_EQ(lines, 3U);
  EXPECT_THAT(svg, HasSubstr("recall 2 ahead"));
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(LearningCurve, IsAnEmptyPictureOfNothing) { EXPECT_THAT(learning_curve({}), HasSubstr("</svg>")); }

}  // namespace
}  // namespace odmoe
