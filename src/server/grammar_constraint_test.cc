#include "server/grammar_constraint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <span>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"
#include "server/scheduler.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr float kInf = std::numeric_limits<float>::infinity();

// Every byte as a token, a few words, one that ends a text and one control token.
struct Words {
  std::vector<std::string> tokens;
  Token end, control;
  Words() {
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* word : {"true", "tr", "fal", "{\"", "\":", "[1", "null}", "  "})
      tokens.emplace_back(word);
    end = static_cast<Token>(tokens.size());
    tokens.emplace_back("<end>");
    control = static_cast<Token>(tokens.size());
    tokens.emplace_back();
  }
  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  std::shared_ptr<const grammar::TokenMasks> masks(const char* schema) const {
    return std::make_shared<grammar::TokenMasks>(grammar::TokenMasks{
        .grammar = grammar::json_schema_grammar(nlohmann::ordered_json::parse(schema)).value(),
        .vocabulary = std::make_shared<grammar::Vocabulary>(
            size(), [this](int32_t t) { return tokens[static_cast<size_t>(t)]; },
            [this](int32_t t) { return t == end; })});
  }
  std::vector<float> logits() const { return std::vector<float>(tokens.size(), 0); }
};

// Forbids whatever begins with one of these bytes.
std::vector<std::pair<Token, float>> forbid(const Words& words, std::string_view first) {
  std::vector<std::pair<Token, float>> bias;
  for (Token token = 0; token < words.size(); ++token) {
    const std::string& text = words.tokens[static_cast<size_t>(token)];
    if (!text.empty() && first.contains(text[0])) bias.emplace_back(token, -kInf);
  }
  return bias;
}

constexpr const char* kSpaces = " \t\n\r";
constexpr std::span<const Token> kNone;  // end tokens: none are forbidden here

TEST(GrammarConstraint, WhatTheBiasLeavesNothingOfIsForbiddenBeforeAnythingIsWritten) {
  const Words words;
  const auto grammar = words.masks(R"({"type":"boolean"})");
  for (const float temperature : {0.0F, 1.0F}) {
    TokenChooser draw = chooser_of({.sampling = {.temperature = temperature},
                                    .logit_bias = forbid(words, std::string("tf") + kSpaces),
                                    .grammar = grammar},
                                   kNone, words.size());
    const auto possible = draw.check();
    ASSERT_FALSE(possible.has_value());
    EXPECT_EQ(possible.error().why, NoToken::Why::kForbidden);
    std::vector<float> logits = words.logits();
    logits['!'] = 100;
    const auto drawn = draw.choose(logits);
    ASSERT_FALSE(drawn.has_value());
    EXPECT_EQ(drawn.error().why, NoToken::Why::kForbidden);
    EXPECT_EQ(drawn.error().error.kind, ErrorKind::kUsage);
    EXPECT_THAT(drawn.error().error.message, HasSubstr("'f'"));
    EXPECT_THAT(drawn.error().error.message, HasSubstr("logit_bias"));
    EXPECT_THAT(drawn.error().error.message, Not(HasSubstr("\n")));
  }
}

TEST(GrammarConstraint, ATokenThatIsOnlyMadeUnlikelyMayStillBeWrittenWhereNoOtherMay) {
  const Words words;
  Generation generation{.sampling = {.temperature = 0}, .grammar = words.masks(R"({"const":true})")};
  for (Token token = 0; token < words.size(); ++token) generation.logit_bias.emplace_back(token, -99.5F);
  TokenChooser draw = chooser_of(generation, kNone, words.size());
  EXPECT_TRUE(draw.check().has_value());
  EXPECT_TRUE(draw.choose(words.logits()).has_value());
}

TEST(GrammarConstraint, WhatIsForbiddenInTheMiddleSaysSoThere) {
  const Words words;
  TokenChooser draw = chooser_of({.sampling = {.temperature = 0},
                                  .logit_bias = forbid(words, "e"),
                                  .grammar = words.masks(R"({"const":"be"})")},
                                 kNone, words.size());
  EXPECT_TRUE(draw.check().has_value());
  for (const char wanted : {'"', 'b'}) {
    EXPECT_EQ(draw.choose(words.logits()).value(), wanted);
    EXPECT_TRUE(draw.accept(wanted));
  }
  const auto drawn = draw.choose(words.logits());
  ASSERT_FALSE(drawn.has_value());
  EXPECT_EQ(drawn.error().why, NoToken::Why::kForbidden);
  EXPECT_THAT(drawn.error().error.message, HasSubstr("the byte 'e' after 2 tokens"));
}

TEST(GrammarConstraint, AVocabularyWithoutTheBytesThatMustFollowIsAnErrorThatNamesThem) {
  Words words;
  words.tokens['e'] = "E";
  TokenChooser draw = chooser_of(
      {.sampling = {.temperature = 1}, .grammar = words.masks(R"({"const":"be"})")}, kNone, words.size());
  for (const char wanted : {'"', 'b'}) {
    EXPECT_EQ(draw.choose(words.logits()).value(), wanted);
    EXPECT_TRUE(draw.accept(wanted));
  }
  const auto drawn = draw.choose(words.logits());
  ASSERT_FALSE(drawn.has_value());
  EXPECT_EQ(drawn.error().why, NoToken::Why::kError);
  EXPECT_EQ(drawn.error().error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(drawn.error().error.message, HasSubstr("the byte 'e' after 2 tokens"));
}

TEST(GrammarConstraint, LogitsThatLeaveNothingOfWhatMayFollowAreTheModelsFault) {
  const Words words;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {nan, -kInf}) {
    std::vector<float> logits = words.logits();
    for (const char c : std::string("tf") + kSpaces) logits[static_cast<size_t>(c)] = bad;
    for (const auto& [token, bias] : forbid(words, std::string("tf") + kSpaces)) {
      logits[static_cast<size_t>(token)] = bad;
    }
    TokenChooser draw =
        chooser_of({.sampling = {.temperature = 1}, .grammar = words.masks(R"({"type":"boolean"})")}, kNone,
                   words.size());
    const auto drawn = draw.choose(logits);
    ASSERT_FALSE(drawn.has_value());
    EXPECT_EQ(drawn.error().why, NoToken::Why::kError);
    EXPECT_EQ(drawn.error().error.kind, ErrorKind::kBadFile);
  }
}

TEST(GrammarConstraint, AFullTextEndsWhereItsEndTokenIsForbidden) {
  const Words words;
  TokenChooser draw = chooser_of({.sampling = {.temperature = 0},
                                  .logit_bias = {{words.end, -kInf}, {' ', -kInf}, {'\n', -kInf}},
                                  .grammar = words.masks(R"({"type":"integer","minimum":10,"maximum":99})")},
                                 kNone, words.size());
  std::string text;
  while (true) {
    const auto drawn = draw.choose(words.logits());
    if (!drawn.has_value()) {
      EXPECT_EQ(drawn.error().why, NoToken::Why::kComplete);
      break;
    }
    ASSERT_NE(*drawn, words.end);
    text += words.tokens[static_cast<size_t>(*drawn)];
    if (!draw.accept(*drawn)) break;
  }
  EXPECT_EQ(text.size(), 2) << text;
}

TEST(GrammarConstraint, SaysItselfWhereATextEndsWhoeverIgnoresEnds) {
  const Words words;
  TokenChooser draw = chooser_of(
      {.sampling = {.temperature = 0}, .ignore_eos = true, .grammar = words.masks(R"({"type":"integer"})")},
      std::array{words.end}, words.size());
  std::vector<float> logits = words.logits();
  logits[static_cast<size_t>(words.end)] = 100;
  logits['7'] = 10;
  EXPECT_EQ(draw.choose(logits).value(), '7') << "it is not whole yet";
  EXPECT_TRUE(draw.accept('7'));
  EXPECT_EQ(draw.choose(logits).value(), words.end);
}

// Whatever the logits, the bias and the filters are: what is drawn goes on with a text of the grammar and was
// not forbidden, or it is an end or an error; and an end comes only where the text is whole.
TEST(GrammarConstraint, WhatIsDrawnIsWithinTheGrammarWhateverElseIsAskedFor) {
  const Words words;
  const std::array schemas = {
      words.masks(R"({"type":"boolean"})"), words.masks(R"({"enum":["a","ab",null,12]})"),
      words.masks(R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}}})"),
      words.masks(R"({"type":"array","items":{"type":"boolean"},"maxItems":3})"),
      words.masks(R"({"type":"integer"})")};  // whole, and may go on
  constexpr std::array kStrange = {std::numeric_limits<float>::quiet_NaN(),
                                   kInf,
                                   -kInf,
                                   std::numeric_limits<float>::max(),
                                   std::numeric_limits<float>::lowest(),
                                   std::numeric_limits<float>::denorm_min()};
  std::mt19937 random(7);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random()) % n; };
  int n_drawn = 0, n_forbidden = 0, n_failed = 0, n_whole = 0;
  for (int round = 0; round < 3000; ++round) {
    Generation generation;
    generation.sampling = {.temperature = std::array{0.0F, 1e-30F, 1.0F, 50.0F}[below(4)],
                           .top_k = std::array{0, 1, 5}[below(3)],
                           .top_p = std::array{0.0F, 0.5F, 1.0F}[below(3)],
                           .min_p = std::array{0.0F, 0.3F, 1.0F}[below(3)],
                           .repetition_penalty = std::array{0.01F, 1.0F, 100.0F}[below(3)],
                           .presence_penalty = std::array{0.0F, 2.0F}[below(2)],
                           .frequency_penalty = std::array{0.0F, -2.0F}[below(2)],
                           .seed = static_cast<uint64_t>(round)};
    std::vector<bool> forbidden(words.tokens.size());
    const uint32_t n_bias = std::array{0U, 3U, 200U, 2000U}[below(4)];
    for (uint32_t i = 0; i < n_bias; ++i) {
      const auto token = static_cast<Token>(below(static_cast<uint32_t>(words.size())));
      const float bias = below(2) == 0 ? -kInf : static_cast<float>(below(200)) - 100;
      generation.logit_bias.emplace_back(token, bias);
      if (bias == -kInf) forbidden[static_cast<size_t>(token)] = true;
    }
    generation.grammar = schemas[below(schemas.size())];
    const uint32_t strangeness = std::array{0U, 10U, 95U, 100U}[below(4)];  // % of the logits

    TokenChooser draw = chooser_of(generation, kNone, words.size());
    grammar::Automaton automaton(generation.grammar->grammar);
    int32_t state = automaton.start();
    for (int step = 0; step < 30; ++step) {
      std::vector<float> logits = words.logits();
      for (float& logit : logits) {
        logit = below(100) < strangeness ? kStrange[below(kStrange.size())]
                                         : static_cast<float>(below(2000)) / 100 - 10;
      }
      const auto drawn = draw.choose(logits);
      if (!drawn.has_value()) {
        const NoToken& end = drawn.error();
        if (end.why == NoToken::Why::kComplete) {
          ASSERT_TRUE(automaton.accepts(state));
          ++n_whole;
        } else {
          ASSERT_FALSE(automaton.accepts(state));
          ASSERT_FALSE(end.error.message.empty());
          ++(end.why == NoToken::Why::kForbidden ? n_forbidden : n_failed);
          if (end.why == NoToken::Why::kForbidden) {
            ASSERT_GT(n_bias, 0);
          }
        }
        break;
      }
      ++n_drawn;
      const auto token = static_cast<size_t>(*drawn);
      ASSERT_FALSE(forbidden[token]);
      ASSERT_FALSE(std::isnan(logits[token]) || logits[token] == -kInf);
      if (*drawn == words.end) {
        ASSERT_TRUE(automaton.accepts(state));
        break;
      }
      ASSERT_FALSE(words.tokens[token].empty());
      for (const char c : words.tokens[token]) {
        state = automaton.next(state, static_cast<uint8_t>(c));
        ASSERT_NE(state, grammar::Automaton::kDead);
      }
      if (!draw.accept(*drawn)) {
        ASSERT_TRUE(automaton.accepts(state));
        break;
      }
    }
  }
  // All of it was tried.
  EXPECT_GT(n_drawn, 1000);
  EXPECT_GT(n_forbidden, 100);
  EXPECT_GT(n_failed, 100);
  EXPECT_GT(n_whole, 10);
}

}  // namespace
}  // namespace odmoe::server
