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

TEST(StatsFields, OfADeviceTellWhatALayerOfExpertsTookAndWhatAToken) {
  Stats stats;
  const auto device = [&] {
    nlohmann::ordered_json json = nlohmann::ordered_json::parse(stats_json(stats));
    return json["device"];
  };
  for (const char* name : {"graphs_per_token", "sent_bytes_per_layer", "wait_us_per_layer", "hit_rate"}) {
    EXPECT_TRUE(device()[name].is_null()) << name;
  }
  stats.memory.device.name = "GPU0";
  stats.decode = {.tokens = 8, .steps = 4};
  stats.decode.device = {.graphs = 56, .sent_bytes = 4000, .wait_us = 400};
  stats.decode.device_layers = {.graphs = 48,
                                .sent_bytes = 2400,
                                .fetched_bytes = 1200,
                                .exchange_us = 24,
                                .launch_us = 48,
                                .wait_us = 240};
  stats.decode.layers = 24;
  stats.prefill.device_layers = {.sent_bytes = 600};
  stats.prefill.layers = 6;
  stats.device_experts = {.hits = 3, .copies = 1, .evictions = 1, .evicted_to_host = 1};
  const auto json = device();
  EXPECT_EQ(json["graphs_per_token"], 7.0);
  EXPECT_EQ(json["graphs_per_step"], 14.0);
  EXPECT_EQ(json["wait_us_per_step"], 100.0);
  EXPECT_EQ(json["graphs_per_layer"], 2.0);
  EXPECT_EQ(json["sent_bytes_per_layer"], 100.0);
  EXPECT_EQ(json["fetched_bytes_per_layer"], 50.0);
  EXPECT_EQ(json["exchange_us_per_layer"], 1.0);
  EXPECT_EQ(json["launch_us_per_layer"], 2.0);
  EXPECT_EQ(json["wait_us_per_layer"], 10.0);
  EXPECT_EQ(json["prefill_sent_bytes_per_layer"], 100.0);
  EXPECT_EQ(json["hit_rate"], 0.75);
  EXPECT_EQ(json["evicted_to_host"], 1);
}

}  // namespace
}  // namespace odmoe
