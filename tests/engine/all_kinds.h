// Every kind of evaluation that there is, for tests that compare its bits.
#pragma once

#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "tests/engine/test_models.h"

namespace odmoe::testing {

inline constexpr std::string_view kText =
    "In the beginning was the word, and the word was with the people of the United States; and it came to "
    "pass that the king said unto his servants, What is the matter?";

inline Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

// Every position of a prompt, of tokens that follow alone, and of steps of two sessions.
inline std::vector<float> all_kinds(EngineImpl& engine) {
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  };
  auto one = engine.new_session().value(), two = engine.new_session().value();
  const std::vector<Token> prompt = engine.encode(kText, true, true);
  EXPECT_TRUE(one->evaluate(prompt, collect).has_value());
  EXPECT_TRUE(two->evaluate(std::span(prompt).first(prompt.size() / 2), collect).has_value());
  for (int i = 0; i < 6; ++i) {
    const Token next = likeliest(one->logits());
    EXPECT_TRUE(one->evaluate({&next, 1}, collect).has_value());
  }
  for (int i = 0; i < 6; ++i) {
    const std::array batch = {NextToken{.session = one.get(), .token = likeliest(one->logits())},
                              NextToken{.session = two.get(), .token = likeliest(two->logits())}};
    EXPECT_TRUE(engine.step(batch).has_value());
    collect(0, one->logits());
    collect(0, two->logits());
  }
  return logits;
}

inline bool same(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace odmoe::testing
