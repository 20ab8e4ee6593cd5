#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"
#include "grammar/text_grammar.h"

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
      // ^ and $ anywhere, and what looks around.
      {"(^a|b$)", {"a", "ax", "b", "xb"}, {"xa", "bx", ""}},
      {"^a$|^$", {"a", ""}, {"aa", "b"}},
      {"^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", {"1", "-0.5", "+.5", "7."}, {"", "-", ".", "+.", "1e5"}},
      {"^(?=.*[A-Z])(?=.*\\d)[A-Za-z\\d]{4,8}$", {"Abc1", "12AB"}, {"abc1", "ABCD", "Ab1", "Abcdefgh1"}},
      {"^(?!admin)\\w+$", {"user", "adm"}, {"admin", "administrator", ""}},
      {"^\\w+(?<!x)$", {"a", "xa"}, {"x", "ax"}},
      {"(?<=a)b", {"ab", "xaby"}, {"b", "cb"}},
      {"\\bcat\\b", {"cat", "a cat.", "cat, dog"}, {"cats", "concat", ""}},
      {"a\\Bb", {"ab", "xabx"}, {"a b", "a"}},
      {"^(?:(?=a)[ab])+$", {"a", "aa"}, {"b", "ab"}},
      {"^foo(?=bar)", {"foobar", "foobarx"}, {"foo", "foobaz"}},
      // Spelled as other dialects do.
      {"(?i)^abc[x-z]$", {"abcx", "ABCZ", "aBcY"}, {"abc", "abca"}},
      {"^(?i:a)b$", {"ab", "Ab"}, {"aB"}},
      {"(?s)^.$", {"\n", "a"}, {"", "ab"}},
      {"\\Aab\\Z", {"ab"}, {"abZ", "Aab", "xab"}},
      {"^a{,3}$", {"", "a", "aaa"}, {"aaaa", "a{,3}"}},
      {"^a++$", {"a", "aaa"}, {"", "ab"}},
      {"^a++b$", {"ab", "aab"}, {"b", "a"}},
      {"^(?<y>\\d{4})-(?P<m>\\d\\d)$", {"2024-01"}, {"2024"}},
      {"^{\\d}]$", {"{1}]"}, {"1"}},
      {"^a{$", {"a{"}, {"a"}},
      {"^[a-\\d]$", {"a", "-", "5"}, {"b"}},
      {"^[\\w-.]+$", {"a-b.c"}, {"a b", ""}},
      {"^\\p{L}+$", {"aéя中"}, {"1", "a b", ""}},
      {"^\\p{Lu}\\P{Lu}$", {"Éa", "Ж1"}, {"éa", "AB"}},
      {"^[\\p{Script=Greek}\\d]+$", {"αβγ1"}, {"abc"}},
      {"^\\u{1F680}\\uD83D\\uDE80\\cA$", {"🚀🚀\x01"}, {"🚀🚀"}},
      // Counted without a state for each.
      {"^a{1000}$", {}, {"a", ""}},
      {"^((a{1,100}){1,100}){1,100}$", {"a", "aaaaaaaaaaaaaaaaaaaa"}, {"", "b"}},
      {"^(a?){30}$", {"", "a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "b"}},
      {"^(a{3}){2,3}$", {"aaaaaa", "aaaaaaaaa"}, {"aaa", "aaaaaaa", "aaaaaaaa"}},
  };
  for (const auto& one : cases) {
    for (const char* good : one.good) EXPECT_TRUE(matches(one.pattern, good)) << one.pattern << " " << good;
    for (const char* bad : one.bad) EXPECT_FALSE(matches(one.pattern, bad)) << one.pattern << " " << bad;
  }
}

TEST(Pattern, WhatIsNotKnownIsRefusedWithItsReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"(a)\\1", "\\1 is not supported"},
      {"\\k<name>", "\\k is not supported"},
      {"a^b", "no string fits it"},
      {"^\\Bx", "no string fits it"},
      {"(?>a)b", "groups that begin with (?>"},
      {"(?m)^a$", "the flag m is not supported"},
      {"a++a", "possessive"},
      {"(a++)", "possessive"},
      {"\\p{Nonsense}", "there is no property"},
      {"(?<=a(?=b))c", "(?<="},
      {"(?=(?<=a)b)", "(?<="},
      {"(a", "( without its )"},
      {"a)", ") without its ("},
      {"[a", "[ without its ]"},
      {"[]", "[] matches nothing"},
      {"[b-a]", "out of order"},
      {"*a", "nothing before it"},
      {"a**", "two quantifiers"},
      {"a{3,2}", "out of order"},
      {"a{1000001}", "above 1000000"},
      {"\\", "ends with a \\"},
      {"\\ud800", "number of a character"},
      {"\\xZZ", "number of a character"},
  };
  for (const auto& [pattern, reason] : cases) {
    const auto grammar = json_schema_grammar(Json{{"type", "string"}, {"pattern", pattern}});
    ASSERT_FALSE(grammar.has_value()) << pattern;
    EXPECT_THAT(grammar.error().message, HasSubstr(reason)) << pattern;
  }
}

TEST(Pattern, OneThatGrowsBeyondBoundsIsRefused) {
  std::string nested = "a";
  for (int i = 0; i < 100; ++i) nested = "(" + nested + ")";
  // Too many states where it must be deterministic.
  const std::string lookahead = "^(?=(?:.*a.{200}|.*b.{300}))(?!.*c.{250}$).*$";
  for (const std::string& large : {nested, std::string(10'000, 'a'), lookahead}) {
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
