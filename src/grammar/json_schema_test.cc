#include "grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <format>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "grammar/automaton.h"

namespace odmoe::grammar {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

bool takes(Automaton& automaton, std::string_view text) {
  int32_t state = automaton.start();
  for (const char c : text) {
    state = automaton.next(state, static_cast<uint8_t>(c));
    if (state == Automaton::kDead) return false;
  }
  return automaton.accepts(state);
}

class Schema {
 public:
  explicit Schema(const char* json) : automaton_(json_schema_grammar(Json::parse(json)).value()) {}
  bool takes(std::string_view text) { return grammar::takes(automaton_, text); }

 private:
  Automaton automaton_;
};

std::string error_of(const char* json) {
  const auto grammar = json_schema_grammar(Json::parse(json));
  return grammar.has_value() ? "none" : grammar.error().message;
}

TEST(JsonSchema, MembersComeInTheirOrderAndOptionalOnesMayBeMissing) {
  Schema schema(R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},
                    "c":{"type":"boolean"}},"required":["b"],"additionalProperties":false})");
  EXPECT_TRUE(schema.takes(R"({"a":1,"b":"x","c":true})"));
  EXPECT_TRUE(schema.takes(R"({"b": "x"})"));
  EXPECT_TRUE(schema.takes("{\n  \"a\": -12,\n  \"b\": \"\"\n}"));
  EXPECT_TRUE(schema.takes(R"({"b":"x", "c":false})"));
  EXPECT_FALSE(schema.takes(R"({"a":1})"));
  EXPECT_FALSE(schema.takes(R"({"b":"x","a":1})"));
  EXPECT_FALSE(schema.takes(R"({"b":"x","d":1})"));
  EXPECT_FALSE(schema.takes(R"({"a":1.5,"b":"x"})"));
  EXPECT_FALSE(schema.takes(R"({"a":01,"b":"x"})"));
  EXPECT_FALSE(schema.takes(R"({"b":"x",})"));
  EXPECT_FALSE(schema.takes(R"({"b":"x"} )"));
}

TEST(JsonSchema, ObjectsWithoutRequiredMembersMayBeEmpty) {
  Schema schema(R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}}})");
  EXPECT_TRUE(schema.takes("{}"));
  EXPECT_TRUE(schema.takes(R"({"a":null})"));
  EXPECT_TRUE(schema.takes(R"({"b":null})"));
  EXPECT_TRUE(schema.takes(R"({"a":null,"b":null})"));
  EXPECT_FALSE(schema.takes(R"({,"b":null})"));
}

TEST(JsonSchema, StringsAreValidUtf8WithValidEscapes) {
  Schema schema(R"({"type":"string","minLength":1,"maxLength":2})");
  EXPECT_TRUE(schema.takes("\"é🚀\""));
  EXPECT_TRUE(schema.takes(R"("\n\u00e9")"));
  EXPECT_TRUE(schema.takes(R"("\ud83d\ude80")"));
  EXPECT_FALSE(schema.takes("\"\""));
  EXPECT_FALSE(schema.takes("\"abc\""));
  EXPECT_FALSE(schema.takes("\"\n\""));
  EXPECT_FALSE(schema.takes("\"\xFF\""));
  EXPECT_FALSE(schema.takes("\"\xC0\x80\""));
  EXPECT_FALSE(schema.takes("\"\xED\xA0\x80\""));
  EXPECT_FALSE(schema.takes(R"("\ud83d")"));
  EXPECT_FALSE(schema.takes(R"("\x")"));
}

TEST(JsonSchema, IntegersStayInTheirRange) {
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    int64_t low = static_cast<int64_t>(random() % 3000) - 1500,
            high = static_cast<int64_t>(random() % 3000) - 1500;
    if (low > high) std::swap(low, high);
    const std::string text = Json({{"type", "integer"}, {"minimum", low}, {"maximum", high}}).dump();
    Schema schema(text.c_str());
    for (int64_t n = -1600; n <= 1600; ++n) {
      ASSERT_EQ(schema.takes(std::to_string(n)), n >= low && n <= high) << text << " " << n;
    }
  }
  Schema exclusive(R"({"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":100})");
  EXPECT_FALSE(exclusive.takes("0"));
  EXPECT_TRUE(exclusive.takes("1"));
  EXPECT_TRUE(exclusive.takes("99"));
  EXPECT_FALSE(exclusive.takes("100"));
  Schema open(R"({"type":"integer","minimum":95})");
  EXPECT_FALSE(open.takes("94"));
  EXPECT_TRUE(open.takes("95"));
  EXPECT_TRUE(open.takes("123456789"));
  EXPECT_FALSE(open.takes("-95"));
}

TEST(JsonSchema, NumbersAreJsonNumbers) {
  Schema schema(R"({"type":"number"})");
  for (const char* good : {"0", "-0", "1.5", "-1e5", "10E-2", "0.001"})
    EXPECT_TRUE(schema.takes(good)) << good;
  for (const char* bad : {"", "01", "1.", ".5", "+1", "1e", "--1", "NaN"})
    EXPECT_FALSE(schema.takes(bad)) << bad;
}

TEST(JsonSchema, ArraysKeepTheirLength) {
  Schema schema(R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":3})");
  EXPECT_FALSE(schema.takes("[]"));
  EXPECT_TRUE(schema.takes("[true]"));
  EXPECT_TRUE(schema.takes("[true, false,true]"));
  EXPECT_FALSE(schema.takes("[true,true,true,true]"));
  Schema tuple(R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})");
  EXPECT_TRUE(tuple.takes(R"([1,"a"])"));
  EXPECT_FALSE(tuple.takes(R"([1])"));
  EXPECT_FALSE(tuple.takes(R"([1,"a",2])"));
}

TEST(JsonSchema, EnumsConstantsAndAlternatives) {
  Schema schema(
      R"({"anyOf":[{"enum":["a","b\"",3,null]},{"const":{"k":[1,2]}},{"type":["boolean","integer"]}]})");
  for (const char* good : {"\"a\"", R"("b\"")", "3", "null", R"({"k":[1,2]})", "true", "17"}) {
    EXPECT_TRUE(schema.takes(good)) << good;
  }
  EXPECT_FALSE(schema.takes("\"c\""));
  EXPECT_FALSE(schema.takes("1.5"));
  Schema typed(R"({"type":"string","enum":["a",1]})");
  EXPECT_TRUE(typed.takes("\"a\""));
  EXPECT_FALSE(typed.takes("1"));
}

TEST(JsonSchema, ReferencesMayBeRecursive) {
  Schema schema(R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":
                {"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},
                "required":["value","next"],"additionalProperties":false}}})");
  EXPECT_TRUE(schema.takes(R"({"value":1,"next":{"value":2,"next":null}})"));
  EXPECT_FALSE(schema.takes(R"({"value":1,"next":{"value":2}})"));
  EXPECT_THAT(error_of(R"({"$ref":"#"})"), HasSubstr("refers to itself without an end"));
  EXPECT_THAT(error_of(R"({"anyOf":[{"type":"null"},{"$ref":"#"}]})"), HasSubstr("refers to itself"));
}

TEST(JsonSchema, MapsHaveAnyKeys) {
  Schema schema(R"({"type":"object","additionalProperties":{"type":"integer"}})");
  EXPECT_TRUE(schema.takes("{}"));
  EXPECT_TRUE(schema.takes(R"({"x":1,"y z":2})"));
  EXPECT_FALSE(schema.takes(R"({"x":"1"})"));
}

TEST(JsonSchema, FormatsAreKept) {
  Schema date(R"({"type":"string","format":"date"})");
  EXPECT_TRUE(date.takes("\"2024-02-28\""));
  EXPECT_FALSE(date.takes("\"2024-13-01\""));
  Schema time(R"({"type":"string","format":"date-time"})");
  EXPECT_TRUE(time.takes("\"2024-02-28T23:59:00.5+02:00\""));
  EXPECT_FALSE(time.takes("\"2024-02-28\""));
  Schema ip(R"({"type":"string","format":"ipv4"})");
  EXPECT_TRUE(ip.takes("\"192.168.0.255\""));
  EXPECT_FALSE(ip.takes("\"192.168.0.256\""));
}

TEST(JsonSchema, AnythingIsAnyJson) {
  Schema schema("{}");
  EXPECT_TRUE(schema.takes(R"({"a":[1,{"b":null}],"c":"d"})"));
  EXPECT_TRUE(schema.takes("[]"));
  EXPECT_FALSE(schema.takes("[1,]"));
  Automaton object(json_object_grammar().value());
  EXPECT_TRUE(takes(object, R"({"a":[[[]]]})"));
  EXPECT_FALSE(takes(object, "[]"));
}

TEST(JsonSchema, WhatIsNotKnownIsRefusedByItsNameAndPlace) {
  EXPECT_THAT(error_of(R"({"type":"array","uniqueItems":true})"), HasSubstr("\"uniqueItems\""));
  EXPECT_THAT(error_of(R"({"type":"string","pattern":"a","minLength":1})"), HasSubstr("pattern together"));
  EXPECT_THAT(error_of(R"({"type":"object","properties":{"x":{"type":"array","uniqueItems":true}}})"),
              HasSubstr("/properties/x: the keyword \"uniqueItems\""));
  EXPECT_THAT(error_of(R"({"type":"number","maximum":3})"), HasSubstr("\"maximum\""));
  EXPECT_THAT(error_of(R"({"not":{}})"), HasSubstr("\"not\""));
  EXPECT_THAT(error_of(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})"), HasSubstr("anyOf"));
  EXPECT_THAT(error_of(R"({"type":"text"})"), HasSubstr("no type \"text\""));
  EXPECT_THAT(error_of(R"({"type":"string","format":"email"})"), HasSubstr("\"email\""));
  EXPECT_THAT(error_of(R"({"$ref":"http://x"})"), HasSubstr("not within the schema"));
  EXPECT_THAT(error_of(R"([])"), HasSubstr("a schema is an object"));
}

TEST(JsonSchema, OneOfWorksWhereAMemberTellsTheAlternativesApart) {
  Schema schema(R"({"oneOf":[
      {"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},
      {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]}]})");
  EXPECT_TRUE(schema.takes(R"({"kind":"a","x":1})"));
  EXPECT_TRUE(schema.takes(R"({"kind":"b"})"));
  EXPECT_FALSE(schema.takes(R"({"kind":"b","x":1})"));
}

TEST(JsonSchema, ASchemaThatGrowsBeyondBoundsIsRefused) {
  std::string schema = R"({"type":"integer"})";
  for (int i = 0; i < 70; ++i) schema = R"({"type":"array","items":)" + schema + "}";
  EXPECT_THAT(error_of(schema.c_str()), HasSubstr("nests deeper"));
  EXPECT_THAT(error_of(R"({"type":"string","maxLength":900000})"), HasSubstr("too large"));
  std::string many = R"({"type":"object","properties":{)";
  for (int i = 0; i < 1000; ++i) {
    many += std::format(R"({}"p{}":{{"type":"string","maxLength":100000}})", i > 0 ? "," : "", i);
  }
  EXPECT_THAT(error_of((many + "}}").c_str()), HasSubstr("too large"));
}

}  // namespace
}  // namespace odmoe::grammar
