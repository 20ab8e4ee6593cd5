#include "grammar/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"

namespace odmoe::grammar {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

// Whether a string may be written under a schema with this pattern, as JSON spells it.
bool matches(const std::string& pattern, const std::string& text) {
  const auto grammar = json_schema_grammar(Json{{"type", "string"}, {"pattern", pattern}});
  EXPECT_TRUE(grammar.has_value()) << pattern << ": " << (grammar.has_value() ? "" : grammar.error().message);
  if (!grammar.has_value()) return false;
  Automaton automaton(*grammar);
  int32_t state = automaton.start();
  for (const char c : Json(text).dump()) {
    state = automaton.next(state, static_cast<uint8_t>(c));
    if (state == Automaton::kDead) return false;
  }
  return automaton.accepts(state);
}

TEST(Pattern, MatchesWhatItSays) {
  const struct {
    const char* pattern;
    std::vector<const char*> good, bad;
  } cases[] = {
      {"^abc$", {"abc"}, {"", "ab", "abcd", "xabc", "ABC"}},
      {"^[A-Z]{2}-[0-9]{3,4}$", {"AB-123", "ZZ-0000"}, {"AB-12", "A-123", "AB-12345", "ab-123"}},
      {"^(red|green|blue)?$", {"", "red", "blue"}, {"redgreen", "re"}},
      {"^(?:a|bc)+$", {"a", "bc", "abca"}, {"", "b", "ac"}},
      {"^\\d+(\\.\\d{1,2})?$", {"0", "12.3", "7.25"}, {"", ".5", "1.", "1.234"}},
      {"^\\w+@\\w+\\.(com|org)$", {"me_1@x.org"}, {"me@x", "@x.com", "m e@x.com"}},
      {"^a{3}$", {"aaa"}, {"aa", "aaaa"}},
      {"^a{2,}$", {"aa", "aaaaa"}, {"a"}},
      {"^a*?b+?$", {"b", "aab", "abb"}, {"a", ""}},
      {"^(a*)*$", {"", "aaa"}, {"b"}},
      {"^[^0-9]$", {"x", "é", "🚀", "\"", "\n"}, {"5", "xx", ""}},
      {"^[\\d\\-x]+$", {"1-x", "--"}, {"y"}},
      {"^[a-]$", {"a", "-"}, {"b"}},
      {"^\\S\\s\\D\\W$", {"x yé", "a\tb!"}, {"  y!", "x 1!", "x ya"}},
      {"^.$", {"x", "é", "🚀", "\t", "\\", "\""}, {"\n", "xx", ""}},
      {"^\"\\\\\\/$", {"\"\\/"}, {"\\/"}},
      {"^\\t\\x41\\u00e9$", {"\tAé"}, {"tAé"}},
      {"^[а-я]+$", {"привет"}, {"Привет", "hello"}},
      {"^[\\u0400-\\u4fff🚀]$", {"я", "中", "🚀"}, {"é", "Ͽ", "倀"}},
      {"^a|b$", {"a", "axx", "b", "xxb"}, {"xa", "bx", ""}},
      {"lo", {"lo", "hello", "low", "\nlo\""}, {"", "l", "ol"}},
      {"", {"", "anything"}, {}},
      {"^$", {""}, {"x"}},
  };
  for (const auto& one : cases) {
    for (const char* good : one.good) EXPECT_TRUE(matches(one.pattern, good)) << one.pattern << " " << good;
    for (const char* bad : one.bad) EXPECT_FALSE(matches(one.pattern, bad)) << one.pattern << " " << bad;
  }
}

TEST(Pattern, WhatIsNotKnownIsRefusedWithItsReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"(a)\\1", "\\1 is not supported"},
      {"(?=a)", "only (?: is supported"},
      {"(?<name>a)", "only (?: is supported"},
      {"\\bword\\b", "\\b is not supported"},
      {"\\p{L}", "\\p is not supported"},
      {"a^b", "^ is only supported at the beginning"},
      {"(^a)", "^ is only supported at the beginning"},
      {"(a$)", "$ is only supported outside of groups"},
      {"a$b", "around a whole alternative"},
      {"(a", "( without its )"},
      {"a)", ") without its ("},
      {"[a", "[ without its ]"},
      {"[]", "[] matches nothing"},
      {"[b-a]", "out of order"},
      {"[a-\\d]", "out of order"},
      {"*a", "nothing before it"},
      {"a**", "two quantifiers"},
      {"a{", "followed by a number"},
      {"a{1", "{ without its }"},
      {"a{3,2}", "out of order"},
      {"a{1001}", "above 1000"},
      {"\\", "ends with a \\"},
      {"\\ud800", "number of a character"},
      {"\\xZZ", "number of a character"},
  };
  for (const auto& [pattern, reason] : cases) {
    const auto grammar = json_schema_grammar(Json{{"type", "string"}, {"pattern", pattern}});
    ASSERT_FALSE(grammar.has_value()) << pattern;
    EXPECT_THAT(grammar.error().message, HasSubstr(reason)) << pattern;
    EXPECT_THAT(grammar.error().message, HasSubstr("pattern"));
  }
}

TEST(Pattern, OneThatGrowsBeyondBoundsIsRefused) {
  std::string nested = "a";
  for (int i = 0; i < 100; ++i) nested = "(" + nested + ")";
  std::string many;
  for (int i = 0; i < 280; ++i) many += "a{1000}";
  for (const std::string& large : {nested, std::string(3000, 'a'), many}) {
    EXPECT_FALSE(json_schema_grammar(Json{{"type", "string"}, {"pattern", large}}).has_value());
  }
}

// Whether a plain text may be written that the pattern matches whole.
bool matches_whole(const std::string& pattern, const std::string& text) {
  GrammarBuilder builder;
  const auto root = add_whole_pattern(builder, pattern);
  EXPECT_TRUE(root.has_value()) << pattern;
  if (!root.has_value()) return false;
  Automaton automaton(builder.build(*root).value());
  int32_t state = automaton.start();
  for (const char c : text) {
    state = automaton.next(state, static_cast<uint8_t>(c));
    if (state == Automaton::kDead) return false;
  }
  return automaton.accepts(state);
}

TEST(Pattern, APlainTextIsMatchedWholeAndAsItIs) {
  const struct {
    const char* pattern;
    std::vector<const char*> good, bad;
  } cases[] = {
      {"ab", {"ab"}, {"xab", "abx", "a"}},
      {"^ab$", {"ab"}, {"xab", "abx"}},
      {"a|bc", {"a", "bc"}, {"ac", "b", "abc"}},
      {"^a|b$", {"a", "b"}, {"ab", "xb"}},
      {"\"[^\"\\\\]*\"", {"\"\"", "\"a\nb\""}, {"\"", "\\\"a\\\"", "a"}},
      {"\\w+\\n\\t\\\\", {"a\n\t\\"}, {"a\\n\\t\\\\"}},
      {".{2}", {"é🚀", "\\\""}, {"é", "a\nb", "abc"}},
      {"(\\d{1,3}\\.){3}\\d{1,3}", {"127.0.0.1"}, {"127.0.0", "127.0.0.1 "}},
  };
  for (const auto& [pattern, good, bad] : cases) {
    for (const char* text : good) EXPECT_TRUE(matches_whole(pattern, text)) << pattern << ": " << text;
    for (const char* text : bad) EXPECT_FALSE(matches_whole(pattern, text)) << pattern << ": " << text;
  }
  GrammarBuilder builder;
  const auto refused = add_whole_pattern(builder, "(a)\\1");
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("\\1"));
}

}  // namespace
}  // namespace odmoe::grammar
