#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Nothing but the draw itself.
SamplingOptions plain() {
  return {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .penalty_last_n = 64, .seed = 7};
}

SamplingOptions greedy() {
  SamplingOptions options = plain();
  options.temperature = 0;
  return options;
}

// Logits whose softmax at temperature 1 is `probabilities`.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::map<Token, int> draw_many(const SamplingOptions& options, const std::vector<float>& logits,
                               int n = 20000) {
  Sampler sampler(options, static_cast<int32_t>(logits.size()));
  std::map<Token, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sampler.sample(logits).value()];
  return counts;
}

std::set<Token> drawn(const SamplingOptions& options, const std::vector<float>& logits) {
  std::set<Token> tokens;
  for (const auto& [token, count] : draw_many(options, logits)) tokens.insert(token);
  return tokens;
}

TEST(SamplingOptions, DefaultsAreValid) { EXPECT_TRUE(SamplingOptions().validate().has_value()); }

TEST(SamplingOptions, EachOptionIsRefusedOutsideItsRangeByName) {
  const auto message = [](auto change) -> std::string {
    SamplingOptions options;
    change(options);
    const Status status = options.validate();
    if (status.has_value()) return "accepted";
    EXPECT_EQ(status.error().kind, ErrorKind::kUsage);
    return status.error().message;
  };
  EXPECT_EQ(message([](auto& o) { o.temperature = -0.5F; }),
            "temperature must be 0 (greedy) or more, not -0.5");
  EXPECT_THAT(message([](auto& o) { o.temperature = kNan; }), HasSubstr("temperature"));
  EXPECT_THAT(message([](auto& o) { o.temperature = kInf; }), HasSubstr("temperature"));
  EXPECT_THAT(message([](auto& o) { o.top_k = -1; }), HasSubstr("top-k"));
  EXPECT_THAT(message([](auto& o) { o.top_p = 1.5F; }), HasSubstr("top-p"));
  EXPECT_THAT(message([](auto& o) { o.top_p = kNan; }), HasSubstr("top-p"));
  EXPECT_THAT(message([](auto& o) { o.min_p = -0.1F; }), HasSubstr("min-p"));
  EXPECT_THAT(message([](auto& o) { o.repetition_penalty = 0; }), HasSubstr("repetition penalty"));
  EXPECT_THAT(message([](auto& o) { o.presence_penalty = kInf; }), HasSubstr("presence penalty"));
  EXPECT_THAT(message([](auto& o) { o.frequency_penalty = kNan; }), HasSubstr("frequency penalty"));
  EXPECT_THAT(message([](auto& o) { o.penalty_last_n = -2; }), HasSubstr("penalty window"));
  EXPECT_THAT(message([](auto& o) { o.penalty_last_n = 1 << 21; }), HasSubstr("penalty window"));
}

TEST(Sampler, GreedyTakesTheLargestLogitAndTheLowestIdOfEquals) {
  Sampler sampler(greedy(), 5);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, 3, 1, 3, -1}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{-5, -4, -3, -2, -1}), 4);
}

TEST(Sampler, NanAndInfinityAreSurvived) {
  for (const SamplingOptions& options : {greedy(), plain(), SamplingOptions()}) {
    Sampler sampler(options, 4);
    EXPECT_EQ(sampler.sample(std::vector<float>{kNan, -kInf, 1, kNan}), 2);
    EXPECT_EQ(sampler.sample(std::vector<float>{1, kInf, -kInf, kNan}), 1);
    EXPECT_EQ(sampler.sample(std::vector<float>{-kInf, -kInf, -kInf, -kInf}), std::nullopt);
    EXPECT_EQ(sampler.sample(std::vector<float>{kNan, -kInf, kNan, kNan}), std::nullopt);
  }
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const std::vector<double> p = {0.5, 0.3, 0.15, 0.04, 0.01};
  constexpr int kDraws = 100000;
  const std::map<Token, int> counts = draw_many(plain(), logits_of(p), kDraws);
  double chi_square = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * kDraws;
    const double difference = counts.at(static_cast<Token>(i)) - expected;
    chi_square += difference * difference / expected;
  }
  EXPECT_LT(chi_square, 13.28);  // the 99th percentile with 4 degrees of freedom
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  // p^(1/T), normalised: 0.8 and 0.2 become 16/17 at T = 1/2 and 2/3 at T = 2.
  const std::vector<float> logits = logits_of({0.8, 0.2});
  constexpr int kDraws = 100000;
  SamplingOptions options = plain();
  options.temperature = 0.5F;
  EXPECT_NEAR(draw_many(options, logits, kDraws)[0], kDraws * 16.0 / 17, 400);
  options.temperature = 2;
  EXPECT_NEAR(draw_many(options, logits, kDraws)[0], kDraws * 2.0 / 3, 600);
  options.temperature = 1e-30F;
  EXPECT_THAT(drawn(options, logits), ElementsAre(0));
}

TEST(Sampler, TopKKeepsTheKLargest) {
  SamplingOptions options = plain();
  const std::vector<float> logits = {0.1F, 0.5F, 0.3F, 0.4F, 0.2F};
  options.top_k = 1;
  EXPECT_THAT(drawn(options, logits), ElementsAre(1));
  options.top_k = 3;
  EXPECT_THAT(drawn(options, logits), ElementsAre(1, 2, 3));
  options.top_k = 100;
  EXPECT_THAT(drawn(options, logits), ElementsAre(0, 1, 2, 3, 4));
}

TEST(Sampler, TopKOfEqualLogitsKeepsTheLowestIds) {
  SamplingOptions options = plain();
  options.top_k = 3;
  EXPECT_THAT(drawn(options, std::vector<float>(100, 1.5F)), ElementsAre(0, 1, 2));
}

TEST(Sampler, TopKFindsTheLargestAmongManyWhereverTheyAre) {
  constexpr int32_t kVocab = 163840;
  std::vector<float> logits(kVocab);
  for (int32_t i = 0; i < kVocab; ++i) {
    logits[static_cast<size_t>(i)] =
        static_cast<float>((int64_t{i} * 7919) % kVocab) / kVocab;  // 7919 is coprime
  }
  logits[5] = logits[80000] = logits[163839] = 2;
  SamplingOptions options = plain();
  options.top_k = 3;
  std::set<Token> tokens;
  Sampler sampler(options, kVocab);
  for (int i = 0; i < 100; ++i) tokens.insert(sampler.sample(logits).value());
  EXPECT_THAT(tokens, ElementsAre(5, 80000, 163839));
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  SamplingOptions options = plain();
  const std::vector<float> logits = logits_of({0.1, 0.5, 0.25, 0.15});
  options.top_p = 0.45F;
  EXPECT_THAT(drawn(options, logits), ElementsAre(1));
  options.top_p = 0.7F;
  EXPECT_THAT(drawn(options, logits), ElementsAre(1, 2));
  options.top_p = 0.8F;
  EXPECT_THAT(drawn(options, logits), ElementsAre(1, 2, 3));
  options.top_p = 0;
  EXPECT_THAT(drawn(options, logits), ElementsAre(1));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  // Of 0.4, 0.3, 0.2, 0.1 the first two are left and weigh 4/7 and 3/7: 0.55 is reached by the first alone.
  SamplingOptions options = plain();
  options.top_k = 2;
  options.top_p = 0.55F;
  EXPECT_THAT(drawn(options, logits_of({0.4, 0.3, 0.2, 0.1})), ElementsAre(0));
}

TEST(Sampler, TopPIsTakenBeforeTheTemperature) {
  // At T = 100 the two weigh almost the same, but the nucleus was cut at T = 1.
  SamplingOptions options = plain();
  options.top_p = 0.85F;
  options.temperature = 100;
  EXPECT_THAT(drawn(options, logits_of({0.9, 0.1})), ElementsAre(0));
}

TEST(Sampler, AWideNucleusIsFoundToo) {
  // 1000 equal tokens: half of them reach 0.5 (in float: 0.5 exactly), the lowest ids first.
  SamplingOptions options = plain();
  options.top_p = 0.5F;
  const std::set<Token> tokens = drawn(options, std::vector<float>(1000, 0.0F));
  EXPECT_EQ(tokens.size(), 500);
  EXPECT_EQ(*tokens.rbegin(), 499);
}

TEST(Sampler, MinPIsRelativeToTheLikeliest) {
  SamplingOptions options = plain();
  options.min_p = 0.25F;  // 0.5 * 0.25 = 0.125
  EXPECT_THAT(drawn(options, logits_of({0.5, 0.1, 0.13, 0.27})), ElementsAre(0, 2, 3));
  options.min_p = 1;
  EXPECT_THAT(drawn(options, logits_of({0.5, 0.1, 0.13, 0.27})), ElementsAre(0));
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  SamplingOptions options = greedy();
  options.repetition_penalty = 2;
  Sampler positive(options, 3);
  positive.accept(0);
  EXPECT_EQ(positive.sample(std::vector<float>{4, 1.9F, 0}), 0);  // 4 -> 2
  EXPECT_EQ(positive.sample(std::vector<float>{4, 2.1F, 0}), 1);
  Sampler negative(options, 3);
  negative.accept(0);
  EXPECT_EQ(negative.sample(std::vector<float>{-1, -2.1F, -9}), 0);  // -1 -> -2
  EXPECT_EQ(negative.sample(std::vector<float>{-1, -1.9F, -9}), 1);
}

TEST(Sampler, RepetitionPenaltyDoesNotGrowWithTheCount) {
  SamplingOptions options = greedy();
  options.repetition_penalty = 2;
  Sampler sampler(options, 2);
  for (int i = 0; i < 5; ++i) sampler.accept(0);
  EXPECT_EQ(sampler.sample(std::vector<float>{4, 1.9F}), 0);
}

TEST(Sampler, PresencePenaltyIsSubtractedOnceAndFrequencyPenaltyPerOccurrence) {
  SamplingOptions options = greedy();
  options.presence_penalty = 1;
  Sampler presence(options, 2);
  for (int i = 0; i < 3; ++i) presence.accept(0);
  EXPECT_EQ(presence.sample(std::vector<float>{2, 0.9F}), 0);
  EXPECT_EQ(presence.sample(std::vector<float>{2, 1.1F}), 1);

  options.presence_penalty = 0;
  options.frequency_penalty = 0.5F;
  Sampler frequency(options, 2);
  for (int i = 0; i < 3; ++i) frequency.accept(0);
  EXPECT_EQ(frequency.sample(std::vector<float>{2, 0.4F}), 0);
  EXPECT_EQ(frequency.sample(std::vector<float>{2, 0.6F}), 1);
}

TEST(Sampler, PenaltiesApplyBeforeTopKToo) {
  SamplingOptions options = plain();
  options.top_k = 1;
  options.presence_penalty = 5;
  Sampler sampler(options, 3);
  sampler.accept(1);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 4, 2}), 2);
}

TEST(Sampler, PenaltiesForgetWhatLeftTheWindow) {
  SamplingOptions options = greedy();
  options.presence_penalty = 10;
  options.penalty_last_n = 2;
  Sampler sampler(options, 3);
  const std::vector<float> logits = {3, 2, 1};
  EXPECT_EQ(sampler.sample(logits), 0);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(logits), 1);
  sampler.accept(1);
  EXPECT_EQ(sampler.sample(logits), 2);
  sampler.accept(2);  // 0 is out of the window again
  EXPECT_EQ(sampler.sample(logits), 0);
}

TEST(Sampler, AWindowOfMinusOneRemembersAllAndOfZeroNothing) {
  SamplingOptions options = greedy();
  options.presence_penalty = 10;
  options.penalty_last_n = -1;
  const std::vector<float> logits = {3, 2, 1};
  Sampler all(options, 3);
  all.accept(0);
  for (int i = 0; i < 1000; ++i) all.accept(2);
  EXPECT_EQ(all.sample(logits), 1);
  options.penalty_last_n = 0;
  Sampler none(options, 3);
  none.accept(0);
  EXPECT_EQ(none.sample(logits), 0);
}

TEST(Sampler, TokensBeyondTheVocabularyAreIgnored) {
  SamplingOptions options = greedy();
  options.presence_penalty = 10;
  Sampler sampler(options, 2);
  sampler.accept(-1);
  sampler.accept(2);
  EXPECT_EQ(sampler.sample(std::vector<float>{2, 1}), 0);
}

std::vector<Token> sequence(uint64_t seed, int n) {
  SamplingOptions options;
  options.seed = seed;
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i)
    logits[i] = 4 * std::sqrt(static_cast<float>(i * 37 % 1000) / 1000);
  Sampler sampler(options, 1000);
  std::vector<Token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(sampler.sample(logits).value());
  return tokens;
}

TEST(Sampler, TheSameSeedDrawsTheSameTokensAndAnotherDoesNot) {
  EXPECT_EQ(sequence(1, 100), sequence(1, 100));
  EXPECT_NE(sequence(1, 100), sequence(2, 100));
}

// What one machine drew: every other must draw the same.
TEST(Sampler, ASeedDrawsTheSameTokensOnEveryMachine) {
  EXPECT_THAT(sequence(42, 8), ElementsAre(783, 648, 783, 135, 945, 108, 594, 378));
}

}  // namespace
}  // namespace odmoe
