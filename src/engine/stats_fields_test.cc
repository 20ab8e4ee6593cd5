#include "engine/stats_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

namespace odmoe {
namespace {

TEST(StatsFields, HaveEachPlaceOnce) {
  std::set<std::pair<std::string_view, std::string_view>> stats, live, metrics;
  for (const StatsField& field : stats_fields()) {
    const auto insert = [](auto& into, const auto& first, const auto& second) {
      EXPECT_TRUE(second.empty() || into.emplace(first, second).second) << first << " " << second;
    };
    insert(stats, field.stats.group, field.stats.name);
    insert(live, field.live.group, field.live.name);
    EXPECT_TRUE(field.metric.empty() || metrics.emplace(field.metric, field.label).second) << field.metric;
  }
}

TEST(StatsFields, MetricsAreNumbersOfAFamilyThatHasALabelWhereTheyHave) {
  for (const StatsField& field : stats_fields()) {
    if (field.metric.empty()) continue;
    const auto families = metric_families();
    const auto family = std::ranges::find(families, field.metric, &MetricFamily::name);
    ASSERT_NE(family, families.end()) << field.metric;
    EXPECT_EQ(family->label.empty(), field.label.empty()) << field.metric;
    EXPECT_TRUE(field.value(Stats{}).is_number()) << field.metric;
  }
}

TEST(StatsFields, WhatIsNotKnownIsNullAndWhatIsCountedAppears) {
  Stats stats;
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(stats_json(stats));
  EXPECT_EQ(json["experts"]["hit_rate"], 0.0);
  EXPECT_TRUE(json["predictor"]["accuracy"].is_null());
  EXPECT_TRUE(json["io"]["probed_bytes_per_second"].is_null());
  EXPECT_TRUE(json["roofline"]["fraction"].is_null());
  EXPECT_TRUE(json["cluster"]["ranks"].empty());

  stats.experts = {.demands = 4, .hits = 3, .misses = 1};
  stats.predictor.ahead = {{.wanted = 2, .foreseen = 1}, {}};
  stats.ranks = {{.rank = 1, .host = "mac2", .demands = 4, .hits = 1}};
  stats.io.copies = {{.path = "a", .read_bytes = 7, .probed_bytes_per_second = 5}};
  json = nlohmann::ordered_json::parse(stats_json(stats));
  EXPECT_EQ(json["experts"]["hit_rate"], 0.75);
  EXPECT_EQ(json["predictor"]["recall"].dump(), "[0.5,null]");
  EXPECT_EQ(json["cluster"]["ranks"][0]["host"], "mac2");
  EXPECT_EQ(json["cluster"]["ranks"][0]["hit_rate"], 0.25);
  EXPECT_EQ(json["io"]["copies"].dump(),
            R"([{"path":"a","read_bytes":7,"probed_bytes_per_second":5.0,"failed":false}])");
}

}  // namespace
}  // namespace odmoe
