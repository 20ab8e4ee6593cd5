// Predictors that need no training: what they learn while they run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "predict/coactivation.h"
#include "predict/previous_token.h"
#include "predict/stale_gate.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

const PredictorShape kShape{
    .layers = {1, 2, 3}, .n_embd = 2, .n_expert = 8, .n_expert_used = 2, .lookahead = 2};
constexpr std::array kHalves = {0.5F, 0.5F};

class Decoding {
 public:
  explicit Decoding(Predictor& predictor) : predictor_(predictor), scores_(kShape.n_score(), NAN) {}

  // One token, experts by layer.
  void token(const std::vector<std::vector<int32_t>>& experts) {
    for (size_t layer = 0; layer < experts.size(); ++layer) route(layer, experts[layer]);
  }
  int32_t route(size_t layer, const std::vector<int32_t>& experts) {
    const RoutingState state{.layer = layer, .experts = experts, .weights = kHalves};
    predictor_.learn(state);
    return predictor_.predict(state, scores_).value();
  }
  int32_t begin_token() { return predictor_.begin_token({}, scores_).value(); }
  std::span<const float> row(int32_t distance) const {
    return std::span(scores_).subspan(static_cast<size_t>(distance - 1) * 8, 8);
  }
  std::vector<int32_t> best(int32_t distance, size_t n = 2) const {
    std::vector<int32_t> best(n);
    best_experts(row(distance), best);
    return best;
  }

 private:
  Predictor& predictor_;
  std::vector<float> scores_;
};

double probability(float score) { return 1 / (1 + std::exp(-score)); }

// Experts that are chosen at random but always the same.
std::vector<int32_t> draw(uint32_t& state) {
  const auto next = [&] { return static_cast<int32_t>((state = state * 1664525 + 1013904223) >> 29); };
  const int32_t first = next();
  int32_t second = next();
  while (second == first) second = next();
  return {first, second};
}

TEST(PreviousToken, RanksWhatTheLayerChoseForTheTokenBefore) {
  PreviousToken predictor(kShape);
  Decoding run(predictor);
  for (int i = 0; i < 20; ++i) run.token({{0, 1}, {2, 3}, {4, 5}});
  EXPECT_EQ(run.begin_token(), 2);
  EXPECT_THAT(run.best(1), UnorderedElementsAre(0, 1));
  EXPECT_THAT(run.best(2), UnorderedElementsAre(2, 3));
  EXPECT_EQ(run.route(0, {0, 1}), 2);
  EXPECT_THAT(run.best(1), UnorderedElementsAre(2, 3));
  EXPECT_THAT(run.best(2), UnorderedElementsAre(4, 5));
  EXPECT_GT(probability(run.row(1)[2]), 0.9);
  EXPECT_LT(probability(run.row(1)[0]), 0.1);
}

TEST(PreviousToken, MoreRecentComesFirst) {
  PreviousToken predictor(kShape);
  Decoding run(predictor);
  // Everything is chosen three times in a row, so that the age of one token is the best sign there is.
  uint32_t seed = 1;
  for (int i = 0; i < 100; ++i) {
    const std::vector<int32_t> experts = draw(seed);
    for (int repeated = 0; repeated < 3; ++repeated) run.token({experts, experts, experts});
  }
  run.token({{0, 1}, {0, 1}, {0, 1}});
  run.begin_token();
  EXPECT_THAT(run.best(1), UnorderedElementsAre(0, 1));
}

TEST(PreviousToken, ANewSequenceHasNoTokenBefore) {
  PreviousToken predictor(kShape);
  Decoding run(predictor);
  for (int i = 0; i < 5; ++i) run.token({{0, 1}, {2, 3}, {4, 5}});
  run.begin_token();
  const float before = run.row(1)[0];
  predictor.begin_sequence();
  run.begin_token();
  EXPECT_LT(run.row(1)[0], before);
}

TEST(PreviousToken, BeyondTheLastLayerIsTheNextToken) {
  PreviousToken predictor(kShape);
  Decoding run(predictor);
  for (int i = 0; i < 20; ++i) run.token({{0, 1}, {2, 3}, {4, 5}});
  EXPECT_THAT(run.best(1), UnorderedElementsAre(0, 1));
  EXPECT_THAT(run.best(2), UnorderedElementsAre(2, 3));
}

// Layer 1 chooses what layer 0 chose, each plus one; layer 2 each plus three; the next token's layer 0 each
// plus two.
TEST(Coactivation, FindsWhatFollowsOnWhat) {
  Coactivation predictor(kShape);
  Decoding run(predictor);
  uint32_t seed = 1;
  const auto plus = [](std::vector<int32_t> experts, int32_t n) {
    for (int32_t& e : experts) e = (e + n) % 8;
    return experts;
  };
  for (int i = 0; i < 400; ++i) {
    const std::vector<int32_t> first = draw(seed);
    run.token({first, plus(first, 1), plus(first, 3)});
  }
  run.route(0, {2, 6});
  EXPECT_THAT(run.best(1), UnorderedElementsAre(3, 7));
  EXPECT_THAT(run.best(2), UnorderedElementsAre(5, 1));
  EXPECT_GT(run.row(1)[3], 0);
  EXPECT_LT(probability(run.row(1)[2]), 0.2);
}

TEST(Coactivation, TheNextTokensFirstLayersFollowOnTheLastOnes) {
  Coactivation predictor(kShape);
  Decoding run(predictor);
  for (int i = 0; i < 300; ++i) {
    const int32_t e = i % 4 * 2;
    run.token({{e, e + 1}, {0, 1}, {e, e + 1}});
  }
  // The last token had 6 and 7 last, so the next begins with 0 and 1.
  EXPECT_THAT(run.best(1), UnorderedElementsAre(0, 1));
  EXPECT_EQ(run.begin_token(), 2);
  EXPECT_THAT(run.best(1), UnorderedElementsAre(0, 1));
  run.token({{0, 1}, {0, 1}, {0, 1}});
  run.begin_token();
  EXPECT_THAT(run.best(1), UnorderedElementsAre(2, 3));
}

TEST(Coactivation, WithoutATokenBeforeTheFrequentOnesComeFirst) {
  Coactivation predictor(kShape);
  Decoding run(predictor);
  for (int i = 0; i < 300; ++i) run.token({{5, 6}, {0, 1}, {2, 3}});
  predictor.begin_sequence();
  run.begin_token();
  EXPECT_THAT(run.best(1), UnorderedElementsAre(5, 6));
}

TEST(Coactivation, WhatChangedIsLearntAnew) {
  Coactivation predictor(kShape);
  Decoding run(predictor);
  for (int i = 0; i < 2000; ++i) run.token({{0, 1}, {2, 3}, {4, 5}});
  for (int i = 0; i < 4000; ++i) run.token({{0, 1}, {6, 7}, {4, 5}});
  run.route(0, {0, 1});
  EXPECT_THAT(run.best(1), UnorderedElementsAre(6, 7));
}

const StaleGate::FirstRouter kNoFirst = [](std::span<const float>, size_t, std::span<float>) {
  return fail(ErrorKind::kIo, "no embedding was given");
};

TEST(StaleGate, AsksTheFirstLayersRoutersAboutTheEmbedding) {
  const auto first = [](std::span<const float> embedding, size_t target, std::span<float> marks) -> Status {
    for (size_t e = 0; e < marks.size(); ++e) marks[e] = embedding[0] * static_cast<float>((e + target) % 8);
    return {};
  };
  StaleGate predictor(
      kShape, [](const RoutingState&, size_t, std::span<float>) { return fail(ErrorKind::kIo, "no"); }, first,
      {});
  std::vector<float> scores(kShape.n_score());
  EXPECT_EQ(predictor.begin_token({}, scores).value(), 0);
  const std::vector<float> embedding = {1.0F};
  ASSERT_EQ(predictor.begin_token(embedding, scores).value(), 2);
  std::vector<int32_t> best(2);
  best_experts(std::span(scores).first(8), best);
  EXPECT_THAT(best, ElementsAre(7, 6));
  best_experts(std::span(scores).subspan(8, 8), best);
  EXPECT_THAT(best, ElementsAre(6, 5));
}

TEST(StaleGate, AsksTheLaterLayersRouters) {
  std::vector<size_t> asked;
  const auto router = [&](const RoutingState& state, size_t target, std::span<float> marks) -> Status {
    asked.push_back(target);
    for (size_t e = 0; e < marks.size(); ++e) marks[e] = static_cast<float>((e + target) % 8);
    EXPECT_EQ(state.experts[0], 0);
    return {};
  };
  StaleGate predictor(kShape, router, kNoFirst, {.router_input = true});
  Decoding run(predictor);
  EXPECT_EQ(run.route(0, {0, 1}), 2);
  EXPECT_THAT(asked, ElementsAre(1, 2));
  EXPECT_THAT(run.best(1), ElementsAre(6, 5));
  EXPECT_THAT(run.best(2), ElementsAre(5, 4));
  EXPECT_EQ(run.route(1, {0, 1}), 1);
  EXPECT_EQ(run.route(2, {0, 1}), 0);  // no router has seen anything of the next token
}

TEST(StaleGate, ScoresBecomeTheOddsThatAreMeasured) {
  const auto router = [](const RoutingState&, size_t target, std::span<float> marks) -> Status {
    for (size_t e = 0; e < marks.size(); ++e) marks[e] = static_cast<float>((e + target) % 8);
    return {};
  };
  StaleGate predictor(kShape, router, kNoFirst, {});
  Decoding run(predictor);
  // Layer 1 always chooses the two that are marked highest; layer 2 every other time only.
  for (int i = 0; i < 500; ++i) {
    run.token({{0, 1}, {6, 5}, i % 2 == 0 ? std::vector{5, 4} : std::vector{0, 1}});
  }
  run.route(0, {0, 1});
  EXPECT_GT(probability(run.row(1)[6]), 0.7);
  EXPECT_LT(probability(run.row(1)[0]), 0.2);
  EXPECT_NEAR(probability(run.row(2)[5]), 0.5, 0.05);
}

TEST(StaleGate, AnErrorOfTheRouterIsHandedOn) {
  StaleGate predictor(
      kShape, [](const RoutingState&, size_t, std::span<float>) { return fail(ErrorKind::kIo, "no"); },
      kNoFirst, {});
  std::vector<float> scores(kShape.n_score());
  const std::vector<int32_t> experts = {0, 1};
  const auto result = predictor.predict({.layer = 0, .experts = experts, .weights = kHalves}, scores);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().message, "no");
}

}  // namespace
}  // namespace odmoe
