#include "cli/predictor_race.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

RaceResult race_example() {
  RaceResult result{.tokens = 10};
  result.racers.push_back({"none",
                           {{.tokens_per_second = 10, .demands = 100, .hits = 60, .misses = 40},
                            {.tokens_per_second = 20, .demands = 100, .hits = 60, .misses = 40},
                            {.tokens_per_second = 30, .demands = 100, .hits = 60, .misses = 40}}});
  result.racers.push_back({"stale-gate",
                           {{.tokens_per_second = 22,
                             .demands = 100,
                             .hits = 80,
                             .late_hits = 10,
                             .misses = 10,
                             .prefetched = 50,
                             .prefetched_used = 30,
                             .ahead = {{.wanted = 100, .foreseen = 75}}}}});
  return result;
}

TEST(PredictorRace, SpeedIsTheMedianBesideThatWithoutPredictor) {
  const auto json = nlohmann::json::parse(race_json(race_example()));
  EXPECT_EQ(json["predictors"][0]["tokens_per_second"], 20.0);
  EXPECT_EQ(json["predictors"][0]["speed_of_none"], 1.0);
  EXPECT_DOUBLE_EQ(json["predictors"][1]["speed_of_none"], 1.1);
  EXPECT_THAT(race_table(race_example()), HasSubstr("1.100"));
}

TEST(PredictorRace, CoverageIsTheMissesAvoidedAndAccuracyThePrefetchesUsed) {
  const auto json = nlohmann::json::parse(race_json(race_example()));
  const auto& gate = json["predictors"][1];
  EXPECT_DOUBLE_EQ(gate["coverage"], 30.0 / 40);
  EXPECT_DOUBLE_EQ(gate["accuracy"], 30.0 / 50);
  EXPECT_DOUBLE_EQ(gate["hit_rate"], 0.8);
  EXPECT_DOUBLE_EQ(gate["late_hit_rate"], 0.1);
  EXPECT_DOUBLE_EQ(gate["recall"][0], 0.75);
}

TEST(PredictorRace, WithoutOneToCompareWithThereIsNoRatio) {
  RaceResult result = race_example();
  result.racers.erase(result.racers.begin());
  EXPECT_FALSE(nlohmann::json::parse(race_json(result))["predictors"][0].contains("coverage"));
  EXPECT_THAT(race_table(result), Not(HasSubstr("1.100")));
}

TEST(PredictorRace, ARacerThatNeverRanIsLeftOut) {
  RaceResult result = race_example();
  result.interrupted = true;
  result.racers.push_back({"shadow", {}});
  EXPECT_THAT(race_table(result), Not(HasSubstr("shadow")));
  EXPECT_THAT(race_table(result), HasSubstr("interrupted"));
}

}  // namespace
}  // namespace odmoe::cli
