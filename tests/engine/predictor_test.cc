// Guesses of the next layer's experts: how good they are on a trained model, and that they are counted right.
// That they change no bit is shown in budget_sweep_test.
#include <gtest/gtest.h>

#include <filesystem>

#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::predictor_test {
namespace {

using namespace odmoe::testing;

Stats decode(PredictorKind predictor, double percent, int32_t lookahead = 1) {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = percent;
  options.predictor = predictor;
  options.lookahead = lookahead;
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  auto session = engine->new_session().value();
  const std::vector<Token> text = engine->encode("And God said unto the king, thou shalt go", true, true);
  for (const Token token : text) EXPECT_TRUE(session->evaluate({&token, 1}).has_value());
  return engine->stats();
}

TEST(StaleGate, ForeseesMostOfTheNextLayersExpertsOfATrainedModel) {
  const Stats stats = decode(PredictorKind::kStaleGate, 25);
  EXPECT_EQ(stats.predictor.name, "stale-gate");
  ASSERT_EQ(stats.predictor.ahead.size(), 1U);
  const Stats::Predictor::Ahead& next = stats.predictor.ahead.front();
  ASSERT_GT(next.wanted, 100U);
  // Guesses at random would be right in n_expert_used of n_expert cases, a quarter at the most.
  EXPECT_GT(next.foreseen * 2, next.wanted);
  EXPECT_LE(next.foreseen, next.wanted);
}

TEST(StaleGate, GuessesEachLayerFromAsFarAheadAsAsked) {
  const Stats one = decode(PredictorKind::kStaleGate, 25, 1);
  const Stats two = decode(PredictorKind::kStaleGate, 25, 2);
  ASSERT_EQ(two.predictor.ahead.size(), 2U);
  // The second layer of a token can be seen from the first alone.
  EXPECT_GT(two.predictor.ahead[0].wanted, 0U);
  EXPECT_GT(two.predictor.ahead[1].wanted, 0U);
  EXPECT_LT(two.predictor.ahead[1].wanted, two.predictor.ahead[0].wanted);
  EXPECT_EQ(two.predictor.ahead[0].wanted, one.predictor.ahead[0].wanted);
}

TEST(StaleGate, WhatIsReadForAGuessIsCountedApartFromDemands) {
  const Stats stats = decode(PredictorKind::kStaleGate, 25);
  EXPECT_GE(stats.predictor.prefetched, stats.predictor.prefetched_used);
  EXPECT_GE(stats.predictor.prefetched_used, stats.predictor.prefetched_late);
  EXPECT_EQ(stats.predictor.prefetched > 0, stats.io.prefetch_read_bytes > 0);
  EXPECT_EQ(stats.experts.demands, stats.experts.hits + stats.experts.late_hits + stats.experts.misses);
}

TEST(StaleGate, GuessesNothingWhereEverythingFits) {
  const Stats stats = decode(PredictorKind::kStaleGate, 100);
  ASSERT_EQ(stats.predictor.ahead.size(), 1U);
  EXPECT_EQ(stats.predictor.ahead.front().wanted, 0U);
  EXPECT_EQ(stats.predictor.prefetched, 0U);
}

TEST(NoPredictor, ReadsOnlyWhatIsAskedFor) {
  const Stats stats = decode(PredictorKind::kNone, 25);
  EXPECT_EQ(stats.predictor.name, "none");
  EXPECT_EQ(stats.predictor.prefetched, 0U);
  EXPECT_EQ(stats.io.prefetch_read_bytes, 0U);
}

TEST(Prefetching, WhatTrialsHaveShownIsTrustedByTheNextRunOfTheModelAndByNoOther) {
  const TempDir dir;
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = 25;
  options.predictor = PredictorKind::kStaleGate;
  options.context = 512;
  options.prefetching_file = dir / "prefetching.json";
  const auto trials = [&](int n_token) -> uint64_t {
    const auto engine = open_or_fail(options);
    if (engine == nullptr) return 0;
    auto session = engine->new_session().value();
    for (int i = 0; i < n_token; ++i) {
      const Token token = 1 + i % 100;
      EXPECT_TRUE(session->evaluate({&token, 1}).has_value());
    }
    return engine->stats().predictor.trials;
  };
  ASSERT_GT(trials(400), 0U);
  EXPECT_TRUE(std::filesystem::exists(options.prefetching_file));
  EXPECT_EQ(trials(100), 0U);
  options.lookahead = 1;
  EXPECT_GT(trials(400), 0U);
}

}  // namespace
}  // namespace odmoe::predictor_test
