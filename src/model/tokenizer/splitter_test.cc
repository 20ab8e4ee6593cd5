#include "model/tokenizer/splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/split_rules.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;

Splitter splitter_for(std::string_view rule) {
  const SplitRule* found = find_split_rule(rule);
  EXPECT_NE(found, nullptr) << rule;
  Result<Splitter> splitter = Splitter::compile(found->expressions);
  EXPECT_TRUE(splitter.has_value()) << rule;
  return std::move(*splitter);
}

std::vector<std::string_view> split(const Splitter& splitter, std::string_view text) {
  std::vector<std::string_view> words;
  splitter.split(text, [&](std::string_view word) {
    words.push_back(word);
    return true;
  });
  return words;
}

// What Hugging Face's tokenizers make of the published expressions.
TEST(Splitter, CutsAsThePublishedExpressionsDo) {
  std::ifstream file(std::string(ODMOE_SOURCE_DIR) + "/tests/data/tokenizer/split-cases.json");
  ASSERT_TRUE(file.is_open());
  const auto cases = nlohmann::json::parse(file);
  ASSERT_GE(cases.size(), 9);
  for (const auto& [rule, texts] : cases.items()) {
    const Splitter splitter = splitter_for(rule);
    for (const auto& item : texts) {
      const std::string text = item.at("text");
      std::vector<std::string> words;
      for (const std::string_view word : split(splitter, text)) words.emplace_back(word);
      EXPECT_EQ(words, item.at("words").get<std::vector<std::string>>()) << rule << ": " << item.dump();
    }
  }
}

TEST(Splitter, CompilesEveryKnownRule) {
  std::string names = known_split_rules();
  size_t count = 0;
  while (!names.empty()) {
    const size_t comma = names.find(", ");
    EXPECT_THAT(split(splitter_for(names.substr(0, comma)), "a\nb"), ::testing::Contains("a"));
    names.erase(0, comma == std::string::npos ? comma : comma + 2);
    ++count;
  }
  EXPECT_GE(count, 20);
}

TEST(Splitter, AnUnknownRuleIsNotFound) { EXPECT_EQ(find_split_rule("no-such-rule"), nullptr); }

TEST(Splitter, AnEmptyTextHasNoWords) { EXPECT_THAT(split(splitter_for("qwen2"), ""), ElementsAre()); }

TEST(Splitter, BytesThatAreNotUtf8AreWordsOfTheirOwn) {
  EXPECT_THAT(split(splitter_for("qwen2"), "ab\xFF\xFE cd\xC3"),
              ElementsAre("ab", "\xFF\xFE", " cd", "\xC3"));
}

TEST(Splitter, LosesNoByteWhateverTheyAre) {
  std::string text;
  uint32_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525 + 1013904223;
    text += static_cast<char>(state >> 24);
  }
  for (const char* rule : {"qwen2", "llama-bpe", "gpt-2", "gpt-4o", "deepseek-llm", "deepseek-coder",
                           "deepseek-v3", "kimi-k2", "default"}) {
    std::string joined;
    for (const std::string_view word : split(splitter_for(rule), text)) joined += word;
    EXPECT_EQ(joined, text) << rule;
  }
}

// Each of these is quadratic, or ends at a match limit, when the expressions are taken as they are written.
TEST(Splitter, AMillionOfOneCharacterIsOrdinaryWork) {
  constexpr size_t kMany = 1 << 20;
  for (const char* rule :
       {"qwen2", "gpt-2", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "kimi-k2"}) {
    const Splitter splitter = splitter_for(rule);
    for (const char c : {'a', 'A', ' ', '.', '\n'}) {
      const std::string text = std::string(kMany, c) + "x";
      std::string joined;
      for (const std::string_view word : split(splitter, text)) joined += word;
      EXPECT_TRUE(joined == text) << rule << " '" << c << "'";
    }
  }
}

TEST(Splitter, ARuleThatDoesNotCompileIsAnError) {
  constexpr std::string_view kBroken[] = {"(a"};
  const Result<Splitter> splitter = Splitter::compile(kBroken);
  ASSERT_FALSE(splitter.has_value());
  EXPECT_EQ(splitter.error().kind, ErrorKind::kUnsupported);
}

}  // namespace
}  // namespace odmoe
