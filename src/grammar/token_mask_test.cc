#include "grammar/token_mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "grammar/json_schema.h"

namespace odmoe::grammar {
namespace {

// All bytes, a few longer tokens, one that ends a text and one control token.
struct Words {
  std::vector<std::string> tokens;
  int32_t end, control;
  Words() {
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* word :
         {"{\"", "\":", "true", "tr", "tru", ", ", "\"}", "ab", "abc", "abd", "\"a\"", "false}"}) {
      tokens.emplace_back(word);
    }
    end = static_cast<int32_t>(tokens.size());
    tokens.emplace_back("<end>");
    control = static_cast<int32_t>(tokens.size());
    tokens.emplace_back("");
  }
  std::shared_ptr<const Vocabulary> vocabulary() const {
    return std::make_shared<Vocabulary>(
        static_cast<int32_t>(tokens.size()), [&](int32_t t) { return tokens[static_cast<size_t>(t)]; },
        [&](int32_t t) { return t == end; });
  }
};

TokenMasks masks_of(const char* schema, const Words& words) {
  return {.grammar = json_schema_grammar(nlohmann::ordered_json::parse(schema)).value(),
          .vocabulary = words.vocabulary()};
}

TEST(TokenMask, AllowsExactlyTheTokensThatTheGrammarTakes) {
  const Words words;
  const TokenMasks masks =
      masks_of(R"({"type":"object","properties":{"ab":{"type":"boolean"},"abc":{"type":"string"}}})", words);
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    Matcher matcher(masks);
    Automaton plain(masks.grammar);
    int32_t state = plain.start();
    for (int step = 0; step < 60; ++step) {
      std::vector<float> logits(words.tokens.size(), 0);
      matcher.mask(logits);
      std::vector<int32_t> allowed;
      for (int32_t token = 0; std::cmp_less(token, words.tokens.size()); ++token) {
        int32_t next = state;
        for (const char c : words.tokens[static_cast<size_t>(token)]) {
          if (next != Automaton::kDead) next = plain.next(next, static_cast<uint8_t>(c));
        }
        bool expected = next != Automaton::kDead;
        if (token == words.end) expected = plain.accepts(state);
        if (token == words.control) expected = false;
        ASSERT_EQ(logits[static_cast<size_t>(token)] == 0, expected)
            << words.tokens[static_cast<size_t>(token)];
        ASSERT_EQ(matcher.allows(token), expected);
        if (expected && token != words.end) allowed.push_back(token);
      }
      if (allowed.empty()) break;
      const int32_t chosen = allowed[random() % allowed.size()];
      for (const char c : words.tokens[static_cast<size_t>(chosen)])
        state = plain.next(state, static_cast<uint8_t>(c));
      if (!matcher.accept(chosen)) break;
    }
  }
}

TEST(TokenMask, EndsWhereNothingMayFollow) {
  const Words words;
  Matcher matcher(masks_of(R"({"const":true})", words));
  EXPECT_FALSE(matcher.complete());
  EXPECT_TRUE(matcher.accept('t'));
  EXPECT_TRUE(matcher.accept('r'));
  EXPECT_TRUE(matcher.accept('u'));
  EXPECT_FALSE(matcher.accept('e'));
  EXPECT_TRUE(matcher.complete());
  std::vector<float> logits(words.tokens.size(), 0);
  matcher.mask(logits);  // the end alone
  EXPECT_EQ(logits[static_cast<size_t>(words.end)], 0);
  EXPECT_LT(logits['e'], 0);
}

TEST(TokenMask, AFullStringOfRandomTokensIsValidJson) {
  const Words words;
  const TokenMasks masks = masks_of(
      R"({"type":"object","properties":{"list":{"type":"array","items":{"type":"integer","maximum":99,"minimum":0},
          "maxItems":3},"flag":{"type":"boolean"}},"required":["list","flag"]})",
      words);
  std::mt19937 random(11);
  int finished = 0;
  for (int round = 0; round < 100; ++round) {
    Matcher matcher(masks);
    std::string text;
    for (int step = 0; step < 400; ++step) {
      std::vector<float> logits(words.tokens.size(), 0);
      matcher.mask(logits);
      std::vector<int32_t> allowed;
      for (int32_t token = 0; std::cmp_less(token, words.tokens.size()); ++token) {
        if (logits[static_cast<size_t>(token)] == 0) allowed.push_back(token);
      }
      const int32_t chosen = allowed[random() % allowed.size()];
      if (chosen == words.end) break;
      text += words.tokens[static_cast<size_t>(chosen)];
      if (!matcher.accept(chosen)) break;
    }
    if (!matcher.complete()) continue;  // still within a run of spaces
    ++finished;
    const auto json = nlohmann::json::parse(text, nullptr, false);
    ASSERT_TRUE(json.is_object()) << text;
    EXPECT_LE(json["list"].size(), 3);
    EXPECT_TRUE(json["flag"].is_boolean());
  }
  EXPECT_GT(finished, 50);
}

TEST(TokenMask, ControlTokensComeOnlyWhereTheGrammarNamesThem) {
  const Words words;
  GrammarBuilder builder;
  const auto root =
      builder.sequence({builder.literal("ab"), builder.token(words.control), builder.literal("c")});
  const TokenMasks masks{.grammar = builder.build(root).value(), .vocabulary = words.vocabulary()};
  Matcher matcher(masks);
  std::vector<float> logits(words.tokens.size(), 0);
  matcher.mask(logits);
  EXPECT_LT(logits[static_cast<size_t>(words.control)], 0);
  EXPECT_TRUE(matcher.accept('a'));
  EXPECT_TRUE(matcher.accept('b'));
  std::fill(logits.begin(), logits.end(), 0);
  matcher.mask(logits);
  EXPECT_EQ(logits[static_cast<size_t>(words.control)], 0);
  EXPECT_LT(logits['c'], 0);
  EXPECT_TRUE(matcher.accept(words.control));
  EXPECT_FALSE(matcher.accept('c'));
  EXPECT_TRUE(matcher.complete());
}

TEST(TokenMask, SaysWhatMustFollowWhereTheVocabularyHasNoTokenForIt) {
  const std::vector<std::string> tokens = {"t", "r", "u", "x", "<end>"};
  const auto vocabulary = std::make_shared<Vocabulary>(
      5, [&](int32_t t) { return tokens[static_cast<size_t>(t)]; }, [](int32_t t) { return t == 4; });
  Matcher matcher({.grammar = json_schema_grammar(nlohmann::ordered_json::parse(R"({"const":true})")).value(),
                   .vocabulary = vocabulary});
  for (const int32_t token : {0, 1, 2}) {
    ASSERT_TRUE(matcher.allows_any());
    ASSERT_TRUE(matcher.accept(token));
  }
  EXPECT_FALSE(matcher.allows_any());
  EXPECT_FALSE(matcher.complete());
  EXPECT_EQ(matcher.next_bytes(), ByteSet().set('e'));
}

// Each character of it is a state of its own: more than are kept.
TEST(TokenMask, ALongTextThatWasBegunIsGoneOnWith) {
  const Words words;
  TokenMasks masks = masks_of(R"({"type":"string","maxLength":30000})", words);
  masks.begun = std::string("\"").append(29'999, 'a');
  ASSERT_TRUE(may_begin(masks.grammar, masks.begun));
  Matcher matcher(masks);
  EXPECT_TRUE(matcher.allows('b'));
  EXPECT_TRUE(matcher.allows('"'));
  ASSERT_TRUE(matcher.accept('b'));
  EXPECT_FALSE(matcher.allows('b'));
  EXPECT_TRUE(matcher.allows('"'));
}

}  // namespace
}  // namespace odmoe::grammar
