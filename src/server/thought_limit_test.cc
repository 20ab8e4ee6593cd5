#include "server/thought_limit.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>

#include "server/scheduler.h"

namespace odmoe::server {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();
constexpr int32_t kWords = 258;
constexpr Token kEndWord = 256, kMarkWord = 257;

// Bytes are tokens; 256 ends a text, 257 is a control token.
std::shared_ptr<const ThoughtLimit> limit(int32_t tokens, bool begun,
                                          std::vector<Token> close = {'<', '/', 't', '>'}) {
  return std::make_shared<const ThoughtLimit>(ThoughtLimit{
      .tokens = tokens,
      .open = "<t>",
      .close = "</t>",
      .close_tokens = std::move(close),
      .begun = begun,
      .text_of = [](Token token) {
        return token < 256 ? std::string(1, static_cast<char>(token)) : token == kMarkWord ? "</t>" : "";
      }});
}

// The tokens that the mask leaves.
std::vector<Token> left(LimitedThought& thought) {
  std::vector<float> logits(kWords, 0);
  thought.mask(logits);
  std::vector<Token> tokens;
  for (Token token = 0; token < kWords; ++token) {
    if (logits[static_cast<size_t>(token)] > -kInfinite) tokens.push_back(token);
  }
  return tokens;
}

bool is_free(LimitedThought& thought) { return left(thought).size() == kWords; }

void write(LimitedThought& thought, std::string_view text) {
  for (const char c : text) EXPECT_TRUE(thought.accept(static_cast<uint8_t>(c)));
}

TEST(ThoughtLimit, AThoughtThatIsLongEnoughEndsWithItsMark) {
  LimitedThought thought(limit(3, /*begun=*/true), nullptr, {});
  EXPECT_TRUE(is_free(thought));
  write(thought, "ab");
  EXPECT_TRUE(is_free(thought));
  write(thought, "c");
  for (const char c : std::string("</t>")) {
    EXPECT_EQ(left(thought), std::vector<Token>{c});
    EXPECT_TRUE(thought.allows(c));
    EXPECT_FALSE(thought.allows('x'));
    write(thought, std::string(1, c));
  }
  EXPECT_TRUE(is_free(thought)) << "the answer is the model's own";
  write(thought, "as long as it likes");
  EXPECT_TRUE(is_free(thought));
}

TEST(ThoughtLimit, OneThatEndsItselfIsLeftAlone) {
  LimitedThought thought(limit(10, /*begun=*/true), nullptr, {});
  write(thought, "a</t>and a long answer");
  EXPECT_TRUE(is_free(thought));
  LimitedThought token(limit(2, /*begun=*/true, {kMarkWord}), nullptr, {});
  EXPECT_TRUE(token.accept(kMarkWord));
  write(token, "and a long answer");
  EXPECT_TRUE(is_free(token));
}

TEST(ThoughtLimit, AThoughtMayBeginWithTheTextOrNot) {
  LimitedThought thought(limit(2, /*begun=*/false, {kMarkWord}), nullptr, {});
  write(thought, "\n<t>ab");
  EXPECT_EQ(left(thought), std::vector<Token>{kMarkWord});
  LimitedThought answer(limit(2, /*begun=*/false, {kMarkWord}), nullptr, {});
  write(answer, "no <t>hought here");
  EXPECT_TRUE(is_free(answer));
  LimitedThought none(limit(0, /*begun=*/true, {kMarkWord}), nullptr, {});
  EXPECT_EQ(left(none), std::vector<Token>{kMarkWord});
}

TEST(ThoughtLimit, EndsThatAreNotToBeDrawnAreNot) {
  LimitedThought thought(limit(3, /*begun=*/true), nullptr, {kEndWord});
  EXPECT_EQ(left(thought).size(), kWords - 1);
  const Generation generation{.sampling = {.temperature = 0}, .ignore_eos = true, .thought = limit(1, true)};
  TokenChooser chooser = chooser_of(generation, std::array{kEndWord}, kWords);
  std::vector<float> logits(kWords, 0);
  logits[kEndWord] = 100;
  logits['x'] = 10;
  EXPECT_EQ(chooser.choose(logits).value(), 'x');
  EXPECT_TRUE(chooser.accept('x'));
  EXPECT_EQ(chooser.choose(logits).value(), '<');
}

}  // namespace
}  // namespace odmoe::server
