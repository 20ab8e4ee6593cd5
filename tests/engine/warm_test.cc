// Experts that are read before anybody asks for them.
#include <gtest/gtest.h>

#include "tests/engine/test_models.h"

namespace odmoe::warm_test {
namespace {

using namespace odmoe::testing;

EngineOptions half() {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = 50;
  options.fill = false;  // what is there is then what was asked for
  return options;
}

std::vector<LikelyExpert> all_of(const EngineImpl& engine) {
  std::vector<LikelyExpert> experts;
  for (int32_t expert = 0; expert < engine.model().n_expert; ++expert) {
    for (const int layer : engine.decoder().expert_layers())
      experts.push_back({.layer = layer, .expert = expert});
  }
  return experts;
}

TEST(Warm, ReadsAsManyAsTheArenaHoldsAndNoneIsADemand) {
  const auto engine = open_or_fail(half());
  ASSERT_NE(engine, nullptr);
  uint64_t told = 0;
  ASSERT_TRUE(engine
                  ->warm(all_of(*engine),
                         [&](uint64_t done, uint64_t) {
                           told = done;
                           return true;
                         })
                  .has_value());
  const Stats stats = engine->stats();
  EXPECT_EQ(stats.experts.demands, 0U);
  EXPECT_GT(stats.io.prefetch_read_bytes, 0U);
  EXPECT_GT(told, static_cast<uint64_t>(stats.n_slot_now) / 2);
  EXPECT_LE(told, static_cast<uint64_t>(stats.n_slot_now));
}

TEST(Warm, WhatWasReadIsHit) {
  const auto cold = open_or_fail(half()), warm = open_or_fail(half());
  ASSERT_TRUE(cold != nullptr && warm != nullptr);
  ASSERT_TRUE(warm->warm(all_of(*warm), {}).has_value());
  const std::vector<Token> prompt = cold->encode("Now is the winter", true, true);
  std::vector<std::vector<float>> logits;
  for (EngineImpl* engine : {cold.get(), warm.get()}) {
    const auto session = engine->new_session().value();
    ASSERT_TRUE(session->evaluate(prompt).has_value());
    logits.emplace_back(session->logits().begin(), session->logits().end());
  }
  EXPECT_LT(warm->stats().experts.misses, cold->stats().experts.misses);
  EXPECT_EQ(logits[0], logits[1]);
}

TEST(Warm, ExpertsThatAreNotThereAreRefused) {
  const auto engine = open_or_fail(half());
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->warm(std::vector<LikelyExpert>{{.layer = 0, .expert = 100000}}, {}).error().kind,
            ErrorKind::kUsage);
  EXPECT_EQ(engine->warm(std::vector<LikelyExpert>{{.layer = 99, .expert = 0}}, {}).error().kind,
            ErrorKind::kUsage);
  EXPECT_EQ(engine->warm(all_of(*engine), [](uint64_t, uint64_t) { return false; }).error().kind,
            ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace odmoe::warm_test
