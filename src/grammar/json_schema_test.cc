#include "grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>

#include "grammar/automaton.h"
#include "odmoe/format.h"

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

// A number of thousandths, with so many digits behind the point as it needs or more.
std::string thousandths(int64_t n, int32_t places = 3) {
  const int64_t size = std::abs(n);
  std::string text = odmoe::format("{}{}.{:03}", n < 0 ? "-" : "", size / 1000, size % 1000);
  text.resize(text.size() - 3 + static_cast<size_t>(places));
  if (text.ends_with('.')) text.pop_back();
  return text;
}

TEST(JsonSchema, NumbersStayBetweenBoundsThatAreNoIntegers) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    // Of all kinds: with few digits and many, of both signs, on top of each other.
    const auto draw = [&] {
      const int64_t unit = std::array<int64_t, 4>{1, 10, 100, 1000}[random() % 4];
      return (static_cast<int64_t>(random() % 24000) - 12000) / unit * unit;
    };
    int64_t low = draw(), high = round % 7 == 0 ? low + static_cast<int64_t>(random() % 3) : draw();
    if (low > high) std::swap(low, high);
    const bool above = random() % 2 == 0, below = random() % 2 == 0;
    const int sides = static_cast<int>(random() % 4);  // 0 and 3: both
    std::string text = R"({"type":"number")";
    if (sides != 1)
      text += odmoe::format(R"(,"{}":{})", above ? "exclusiveMinimum" : "minimum", thousandths(low));
    if (sides != 2)
      text += odmoe::format(R"(,"{}":{})", below ? "exclusiveMaximum" : "maximum", thousandths(high));
    text += "}";
    const bool empty = sides % 3 == 0 && low == high && (above || below);
    if (empty) {
      EXPECT_THAT(error_of(text.c_str()), HasSubstr("no number fits it")) << text;
      continue;
    }
    Schema schema(text.c_str());
    for (int64_t n = -12500; n <= 12500; ++n) {
      const bool fits = (sides == 1 || n > low || (n == low && !above)) &&
                        (sides == 2 || n < high || (n == high && !below));
      ASSERT_EQ(schema.takes(thousandths(n)), fits) << text << " " << n;
      for (const auto& [unit, places] : {std::pair{100, 1}, {1000, 0}}) {
        if (n % unit != 0) continue;
        ASSERT_EQ(schema.takes(thousandths(n, places)), fits) << text << " " << n;
      }
    }
  }
}

TEST(JsonSchema, WhatIsBeyondABoundByTheLastDigitIsNotTaken) {
  Schema schema(R"({"type":"number","exclusiveMinimum":0.3,"maximum":1e3})");
  EXPECT_FALSE(schema.takes("0.3"));
  EXPECT_FALSE(schema.takes("0.300000000000000"));
  EXPECT_FALSE(schema.takes("0.29999999999999"));
  EXPECT_TRUE(schema.takes("0.30000000000001"));
  // This is the same double as the bound.
  EXPECT_FALSE(schema.takes("0.30000000000000000001"));
  EXPECT_TRUE(schema.takes("1000.00"));
  EXPECT_FALSE(schema.takes("1000.00000000001"));
  EXPECT_FALSE(schema.takes("1e9"));
  EXPECT_FALSE(schema.takes("00.5"));
  EXPECT_FALSE(schema.takes("999."));
  Schema sum(R"({"minimum":0.30000000000000004,"maximum":1e300})");
  EXPECT_FALSE(sum.takes("0.3"));
  EXPECT_TRUE(sum.takes("0.3000000000001"));
  EXPECT_TRUE(sum.takes("999999999999999"));
  Schema negative(R"({"type":"number","maximum":-0.5})");
  EXPECT_TRUE(negative.takes("-0.5"));
  EXPECT_TRUE(negative.takes("-123456.75"));
  EXPECT_FALSE(negative.takes("-0.49"));
  EXPECT_FALSE(negative.takes("0"));
  Schema sign(R"({"type":"number","minimum":-0.5})");
  EXPECT_TRUE(sign.takes("-0.001"));
  EXPECT_TRUE(sign.takes("0.0"));
  EXPECT_FALSE(sign.takes("-0.0"));
  Schema both(R"({"type":"number","minimum":1,"exclusiveMinimum":1,"maximum":2,"exclusiveMaximum":1.5})");
  EXPECT_FALSE(both.takes("1"));
  EXPECT_TRUE(both.takes("1.4999"));
  EXPECT_FALSE(both.takes("1.5"));
  EXPECT_THAT(error_of(R"({"type":"number","minimum":1e20})"), HasSubstr("no number fits it"));
  EXPECT_THAT(error_of(R"({"type":"number","minimum":1e-20,"maximum":2e-20})"),
              HasSubstr("no number fits it"));
  EXPECT_THAT(error_of(R"({"type":"number","minimum":2,"maximum":1.5})"), HasSubstr("less than its minimum"));
  EXPECT_THAT(error_of(R"({"type":"number","exclusiveMinimum":"0"})"), HasSubstr("must be a number"));
}

TEST(JsonSchema, MultiplesOfIntegersAndOfPowersOfTen) {
  std::mt19937 random(11);
  for (const int factor : {2, 3, 5, 7, 10, 12, 60, 99, 100, 1000, 123456}) {
    for (int round = 0; round < 6; ++round) {
      int64_t low = static_cast<int64_t>(random() % 30000) - 15000;
      int64_t high = static_cast<int64_t>(random() % 30000) - 15000;
      if (low > high) std::swap(low, high);
      const std::string text = Json({{"type", round % 2 ? "integer" : "number"},
                                     {"minimum", low},
                                     {"maximum", high},
                                     {"multipleOf", factor}})
                                   .dump();
      if (json_schema_grammar(Json::parse(text)).has_value()) {
        Schema schema(text.c_str());
        for (int64_t n = -15100; n <= 15100; ++n) {
          ASSERT_EQ(schema.takes(std::to_string(n)), n >= low && n <= high && n % factor == 0)
              << text << " " << n;
        }
      } else {
        EXPECT_THAT(error_of(text.c_str()), HasSubstr("no number fits it")) << text;
      }
    }
  }
  Schema open(R"({"type":"integer","multipleOf":7})");
  EXPECT_TRUE(open.takes("123456789012345677"));
  EXPECT_FALSE(open.takes("123456789012345678"));
  EXPECT_TRUE(open.takes("-7"));
  Schema thousands(R"({"type":"integer","multipleOf":1e3,"minimum":-1500})");
  EXPECT_TRUE(thousands.takes("0"));
  EXPECT_TRUE(thousands.takes("-1000"));
  EXPECT_TRUE(thousands.takes("123000"));
  EXPECT_FALSE(thousands.takes("-2000"));
  EXPECT_FALSE(thousands.takes("0000"));
  EXPECT_FALSE(thousands.takes("123400"));
  Schema price(R"({"type":"number","multipleOf":0.01,"minimum":0.05,"exclusiveMaximum":100})");
  EXPECT_TRUE(price.takes("0.05"));
  EXPECT_TRUE(price.takes("99.99"));
  EXPECT_TRUE(price.takes("7"));
  EXPECT_FALSE(price.takes("0.04"));
  EXPECT_FALSE(price.takes("0.051"));
  EXPECT_FALSE(price.takes("100"));
  Schema rating(R"({"type":"number","multipleOf":0.5,"exclusiveMinimum":-1.2,"maximum":5})");
  for (const char* good : {"-1", "-0.5", "0", "0.5", "3", "4.5", "5"})
    EXPECT_TRUE(rating.takes(good)) << good;
  for (const char* bad : {"-1.5", "0.25", "5.5", "-0"}) EXPECT_FALSE(rating.takes(bad)) << bad;
  Schema tenths(R"({"type":"integer","multipleOf":0.1})");
  EXPECT_TRUE(tenths.takes("17"));
  EXPECT_THAT(error_of(R"({"type":"integer","multipleOf":1001})"),
              HasSubstr("multipleOf 1001 is not supported"));
  Schema thirds(R"({"type":"number","multipleOf":0.3})");
  for (const char* good : {"0", "0.3", "0.30", "-1.2", "3", "999999.9"}) {
    EXPECT_EQ(thirds.takes(good), std::string_view(good) != "0.30") << good;
  }
  for (const char* bad : {"0.1", "0.31", "1", "-0", "1.21"}) EXPECT_FALSE(thirds.takes(bad)) << bad;
  EXPECT_THAT(error_of(R"({"type":"number","multipleOf":0})"), HasSubstr("multipleOf must be"));
  EXPECT_THAT(error_of(R"({"type":"number","multipleOf":"x"})"), HasSubstr("multipleOf must be"));
  EXPECT_THAT(error_of(R"({"type":"integer","minimum":1,"maximum":4,"multipleOf":5})"),
              HasSubstr("no number fits it"));
}

TEST(JsonSchema, UniqueItemsOfAnEnumComeOnceEach) {
  Schema schema(
      R"({"type":"array","items":{"enum":["a","b",3]},"uniqueItems":true,"minItems":1,"maxItems":2})");
  for (const char* good : {R"(["a"])", R"([3, "a"])", R"(["b","a"])"})
    EXPECT_TRUE(schema.takes(good)) << good;
  for (const char* bad : {"[]", R"(["a","a"])", R"(["a","b",3])", R"(["c"])", R"(["a",])"}) {
    EXPECT_FALSE(schema.takes(bad)) << bad;
  }
  Schema all(
      R"({"items":{"$ref":"#/$defs/e"},"uniqueItems":true,"$defs":{"e":{"type":"integer","enum":[1,2,1.0,"x"]}}})");
  EXPECT_TRUE(all.takes("[]"));
  EXPECT_TRUE(all.takes("[2,1]"));
  EXPECT_FALSE(all.takes("[1,2,1]"));
  EXPECT_FALSE(all.takes("[1,1.0]"));
  EXPECT_FALSE(all.takes("[\"x\"]"));
  Schema any(R"({"type":"array","items":{"type":"integer"},"uniqueItems":false})");
  EXPECT_TRUE(any.takes("[1,1]"));
  Schema one(R"({"type":"array","items":{"type":"integer"},"uniqueItems":true,"maxItems":1})");
  EXPECT_TRUE(one.takes("[1]"));
  EXPECT_FALSE(one.takes("[1,1]"));
  // Of many the order is the enum's.
  Schema many(
      R"({"type":"array","items":{"type":"integer","minimum":1,"maximum":12},"uniqueItems":true,"minItems":2})");
  EXPECT_TRUE(many.takes("[1,5, 12]"));
  EXPECT_FALSE(many.takes("[1]"));
  EXPECT_FALSE(many.takes("[5,5]"));
  EXPECT_FALSE(many.takes("[5,1]"));
  EXPECT_THAT(error_of(R"({"type":"array","items":{"type":"string"},"uniqueItems":true})"),
              HasSubstr("\"uniqueItems\" is only supported where items is an enum or has bounds"));
  EXPECT_THAT(error_of(R"({"items":{"enum":[1,2]},"uniqueItems":true,"minItems":3})"), HasSubstr("minItems"));
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

TEST(JsonSchema, WhatCannotBeHeldIsRefusedByItsNameAndPlace) {
  EXPECT_THAT(error_of(R"({"type":"array","uniqueItems":true})"), HasSubstr("\"uniqueItems\""));
  EXPECT_THAT(error_of(R"({"type":"object","properties":{"x":{"type":"array","uniqueItems":true}}})"),
              HasSubstr("/properties/x: the keyword \"uniqueItems\""));
  EXPECT_THAT(error_of(R"({"not":{}})"), HasSubstr("\"not\""));
  EXPECT_THAT(error_of(R"({"type":"text"})"), HasSubstr("no type \"text\""));
  EXPECT_THAT(error_of(R"({"$ref":"http://x"})"), HasSubstr("not within the schema"));
  EXPECT_THAT(error_of(R"({"properties":{"a":{"$ref":"#/$defs/b"}}})"),
              HasSubstr("/properties/a: there is nothing at $ref \"#/$defs/b\""));
  EXPECT_THAT(error_of(R"([])"), HasSubstr("a schema is an object"));
  EXPECT_THAT(error_of(R"({"$dynamicRef":"#x"})"), HasSubstr("$dynamicRef"));
  EXPECT_THAT(error_of(R"({"type":"string","pattern":"(a)\\1"})"), HasSubstr("\\1 is not supported"));
  EXPECT_THAT(error_of(R"({"properties":{"a":{}},"required":["b"],"additionalProperties":false})"),
              HasSubstr("\"b\" is required, but not allowed"));
}

TEST(JsonSchema, OneOfWorksWhereAMemberTellsTheAlternativesApart) {
  Schema schema(R"({"oneOf":[
      {"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},
      {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]}]})");
  EXPECT_TRUE(schema.takes(R"({"kind":"a","x":1})"));
  EXPECT_TRUE(schema.takes(R"({"kind":"b"})"));
  EXPECT_FALSE(schema.takes(R"({"kind":"b","x":1})"));
}

}  // namespace
}  // namespace odmoe::grammar
