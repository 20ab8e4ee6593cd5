// Guesses of the next layer's experts: how good they are on a trained model, and that they are counted right.
// That they change no bit is shown in budget_sweep_test.
#include <gtest/gtest.h>

#include "tests/engine/test_models.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;

Stats decode(PredictorKind predictor, double percent) {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = percent;
  options.predictor = predictor;
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
  ASSERT_GT(stats.predictor.wanted, 100U);
  // Guesses at random would be right in n_expert_used of n_expert cases, a quarter at the most.
  EXPECT_GT(stats.predictor.foreseen * 2, stats.predictor.wanted);
  EXPECT_LE(stats.predictor.foreseen, stats.predictor.wanted);
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
  EXPECT_EQ(stats.predictor.wanted, 0U);
  EXPECT_EQ(stats.predictor.prefetched, 0U);
}

TEST(NoPredictor, ReadsOnlyWhatIsAskedFor) {
  const Stats stats = decode(PredictorKind::kNone, 25);
  EXPECT_EQ(stats.predictor.name, "none");
  EXPECT_EQ(stats.predictor.prefetched, 0U);
  EXPECT_EQ(stats.io.prefetch_read_bytes, 0U);
}

}  // namespace
}  // namespace odmoe
