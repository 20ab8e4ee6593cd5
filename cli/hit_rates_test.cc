#include "cli/hit_rates.h"

#include <gtest/gtest.h>

#include <vector>

namespace odmoe::cli {
namespace {

// One layer of eight experts, one of which a token wants.
RoutingTrace one_layer(const std::vector<int32_t>& chosen) {
  RoutingTrace trace{.n_layer = 1, .n_expert = 8, .n_expert_used = 1};
  for (const int32_t expert : chosen) {
    trace.events.push_back({.layer = 0, .n_expert = 1, .first = trace.experts.size()});
    trace.experts.push_back(expert);
    trace.weights.push_back(1);
  }
  return trace;
}

TEST(HitRates, AreNoneWithoutExpertsAndAllWithAll) {
  for (const HitRates* rates : {&hit_rates_of_traces(), &hit_rates_of_chance()}) {
    EXPECT_EQ(rates->at(0), 0);
    EXPECT_EQ(rates->at(-1), 0);
    EXPECT_EQ(rates->at(1), 1);
    EXPECT_EQ(rates->at(2), 1);
  }
}

TEST(HitRates, AreOnStraightLinesBetweenWhatIsKnown) {
  EXPECT_DOUBLE_EQ(hit_rates_of_traces().at(.25), .768);
  EXPECT_NEAR(hit_rates_of_traces().at(.375), (.768 + .859) / 2, 1e-9);
  EXPECT_NEAR(hit_rates_of_chance().at(.375), .375, 1e-9);
}

TEST(HitRates, NeverFallWithMoreMemory) {
  const HitRates falling({{.25, .5}, {.5, .4}, {.75, .8}});
  EXPECT_DOUBLE_EQ(falling.at(.5), .5);
  for (const HitRates* rates : {&hit_rates_of_traces(), &hit_rates_of_chance(), &falling}) {
    for (double share = 0; share < 1; share += .01) EXPECT_LE(rates->at(share), rates->at(share + .01));
  }
}

TEST(HitRates, OfATraceAreWhatThePolicyHitsOnIt) {
  const RoutingTrace trace = one_layer({0, 1, 0, 2, 0, 3, 0, 1, 0, 2});
  const TraceHits hits = hit_rates_of(trace).value();
  EXPECT_DOUBLE_EQ(hits.first_uses, .4);
  for (const int n_slot : {1, 2, 3, 4, 5}) {
    const double simulated = simulate(trace, EngineOptions{}.policy, n_slot).value().rate();
    EXPECT_DOUBLE_EQ(hits.rates.at(n_slot / 8.), simulated) << n_slot;
  }
  EXPECT_EQ(hits.rates.at(1), 1) << "all are there in the long run";
}

TEST(HitRates, OfATraceCanBeInterrupted) {
  const auto hits = hit_rates_of(one_layer({0, 1, 2}), [](double) { return false; });
  ASSERT_FALSE(hits.has_value());
  EXPECT_EQ(hits.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace odmoe::cli
