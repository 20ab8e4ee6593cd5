#include "engine/token_chooser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

namespace odmoe {
namespace {

using ::testing::HasSubstr;
using Why = NoToken::Why;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kVocab = 4;
constexpr std::array<float, kVocab> kLogits = {1, 2, 3, 4};

TokenChooser greedy_chooser(TokenChooserOptions options) {
  options.sampling.temperature = 0;
  return {std::move(options), kVocab};
}

TEST(TokenChooser, ChoosesByTheModelsLogitsAndTheBias) {
  EXPECT_EQ(greedy_chooser({}).choose(kLogits).value(), 3);
  TokenChooser biased = greedy_chooser({.logit_bias = {{0, 2.5F}, {0, 2.5F}, {3, -kInfinity}}});
  EXPECT_TRUE(biased.check().has_value());
  EXPECT_EQ(biased.choose(kLogits).value(), 0) << "biases of one token are added";
}

TEST(TokenChooser, WhatIsNeverDrawnIsNotMadePossibleByABias) {
  TokenChooser chooser = greedy_chooser({.logit_bias = {{3, 100.0F}}, .never_drawn = {2, 3}});
  EXPECT_EQ(chooser.choose(kLogits).value(), 1);
  for (int seed = 0; seed < 50; ++seed) {
    TokenChooser drawing({.sampling = {.temperature = 5, .top_k = 0, .seed = static_cast<uint64_t>(seed)},
                          .never_drawn = {2, 3}},
                         kVocab);
    EXPECT_LT(drawing.choose(kLogits).value(), 2);
  }
}

TEST(TokenChooser, WhatTheModelSuppressesIsNeverDrawnAndEndsOnlyWhereTheyAreIgnored) {
  const std::vector<Token> suppressed = {5, 7}, ends = {1, 2};
  EXPECT_EQ(never_drawn(suppressed, ends, false), suppressed);
  EXPECT_EQ(never_drawn(suppressed, ends, true), (std::vector<Token>{5, 7, 1, 2}));
  EXPECT_TRUE(never_drawn({}, ends, false).empty());
}

TEST(TokenChooser, GoesOnAsAnotherOneThatChoseTheBeginning) {
  for (const float temperature : {0.0F, 5.0F}) {
    const TokenChooserOptions options{
        .sampling = {.temperature = temperature, .top_k = 0, .presence_penalty = 3, .seed = 11}};
    TokenChooser whole({.sampling = options.sampling}, kVocab), rest({.sampling = options.sampling}, kVocab);
    for (int i = 0; i < 20; ++i) {
      const Token token = whole.choose(kLogits).value();
      whole.accept(token);
      rest.chose_earlier(token);
    }
    for (int i = 0; i < 20; ++i) {
      const Token token = whole.choose(kLogits).value();
      EXPECT_EQ(rest.choose(kLogits).value(), token);
      whole.accept(token);
      rest.accept(token);
    }
  }
}

TEST(TokenChooser, ABiasThatForbidsEveryTokenThatMayBeDrawnIsForbidden) {
  std::vector<std::pair<Token, float>> all;
  for (Token token = 0; token < kVocab; ++token) all.emplace_back(token, -kInfinity);
  TokenChooser chooser = greedy_chooser({.logit_bias = all});
  EXPECT_EQ(chooser.check().error().why, Why::kForbidden);
  const auto chosen = chooser.choose(kLogits);
  ASSERT_FALSE(chosen.has_value());
  EXPECT_EQ(chosen.error().why, Why::kForbidden);
  EXPECT_EQ(chosen.error().error.kind, ErrorKind::kUsage);
  // The one that it leaves ends a text that is not to end.
  all.pop_back();
  EXPECT_TRUE(greedy_chooser({.logit_bias = all}).check().has_value());
  EXPECT_EQ(greedy_chooser({.logit_bias = all, .never_drawn = {3}}).check().error().why, Why::kForbidden);
}

TEST(TokenChooser, LogitsThatAreNoNumbersAreTheModelsFault) {
  TokenChooser chooser = greedy_chooser({.never_drawn = {3}});
  chooser.accept(0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto chosen = chooser.choose(std::array<float, kVocab>{nan, nan, -kInfinity, 1});
  ASSERT_FALSE(chosen.has_value());
  EXPECT_EQ(chosen.error().why, Why::kError);
  EXPECT_EQ(chosen.error().error.kind, ErrorKind::kBadFile);
  EXPECT_THAT(chosen.error().error.message, HasSubstr("after 1 tokens a likelihood (3 of its 4 logits"));
}

TEST(TokenChooser, PenaltiesCountWhatWasReadAndWhatWasChosen) {
  TokenChooser chooser({.sampling = {.temperature = 0, .repetition_penalty = 2}}, kVocab);
  chooser.read(3);
  EXPECT_EQ(chooser.choose(kLogits).value(), 2);
  EXPECT_TRUE(chooser.accept(2));
  EXPECT_EQ(chooser.choose(kLogits).value(), 1);
}

// Takes one text of tokens.
class OneText final : public TokenConstraint {
 public:
  explicit OneText(std::vector<Token> text) : text_(std::move(text)) {}
  void mask(std::span<float> logits) override {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (!allows(static_cast<Token>(i))) logits[i] = -kInfinity;
    }
  }
  bool accept(Token /*token*/) override { return ++at_ < text_.size(); }
  bool complete() const override { return at_ == text_.size(); }
  bool allows(Token token) override { return at_ < text_.size() && text_[at_] == token; }
  std::optional<Error> dead_end(std::string_view /*where*/) override { return std::nullopt; }
  std::string what_may_follow() override { return "its own"; }

 private:
  std::vector<Token> text_;
  size_t at_ = 0;
};

TEST(TokenChooser, AConstraintHasTheLastWordAndMayEndTheText) {
  // It has an end token in its text: that is its own affair.
  TokenChooser chooser = greedy_chooser({.logit_bias = {{3, 50.0F}},
                                         .never_drawn = {1},
                                         .constraint = std::make_unique<OneText>(std::vector<Token>{0, 1})});
  EXPECT_TRUE(chooser.check().has_value());
  EXPECT_EQ(chooser.choose(kLogits).value(), 0);
  EXPECT_TRUE(chooser.accept(0));
  EXPECT_EQ(chooser.choose(kLogits).value(), 1);
  EXPECT_FALSE(chooser.accept(1));
  EXPECT_EQ(chooser.choose(kLogits).error().why, Why::kComplete);

  TokenChooser forbidden = greedy_chooser(
      {.logit_bias = {{0, -kInfinity}}, .constraint = std::make_unique<OneText>(std::vector<Token>{0, 1})});
  EXPECT_EQ(forbidden.check().error().why, Why::kForbidden);
  EXPECT_THAT(forbidden.check().error().error.message, HasSubstr("continue with its own, but logit_bias"));
}

}  // namespace
}  // namespace odmoe
