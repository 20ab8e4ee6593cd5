#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"
#include "odmoe/format.h"

namespace odmoe::grammar {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

std::string refusal_of(const std::string& json) {
  const auto grammar = json_schema_grammar(Json::parse(json));
  return grammar.has_value() ? "none" : grammar.error().message;
}

class AnySchema {
 public:
  explicit AnySchema(const std::string& json) : automaton_(grammar_of(json)) {}
  bool takes(std::string_view text) {
    int32_t state = automaton_.start();
    for (const char c : text) {
      state = automaton_.next(state, static_cast<uint8_t>(c));
      if (state == Automaton::kDead) return false;
    }
    return automaton_.accepts(state);
  }

 private:
  static std::shared_ptr<const Grammar> grammar_of(const std::string& json) {
    auto grammar = json_schema_grammar(Json::parse(json));
    EXPECT_TRUE(grammar.has_value()) << json << ": " << refusal_of(json);
    return grammar.has_value() ? *grammar : json_object_grammar().value();
  }
  Automaton automaton_;
};

struct Case {
  const char* schema;
  std::vector<const char*> good, bad;
};

void check(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    AnySchema schema(one.schema);
    for (const char* good : one.good) EXPECT_TRUE(schema.takes(good)) << one.schema << " " << good;
    for (const char* bad : one.bad) EXPECT_FALSE(schema.takes(bad)) << one.schema << " " << bad;
  }
}

TEST(SchemaFeatures, WhatOnlyDescribesIsPassedOver) {
  check(
      {{R"({"type":"string","title":"T","default":5,"examples":[1],"deprecated":true,"readOnly":true,"x-order":1,
             "enumNames":["a"],"contentEncoding":"base64","contentMediaType":"image/png","$comment":"c","id":"i",
             "markdownDescription":"m","xml":{},"externalDocs":{},"example":1,"discriminator":{"propertyName":"p"},
             "startsWith":"x","format":"no-such-format"})",
        {R"("x")"},
        {"5"}},
       {R"({"type":"object","properties":{"a":{"type":"string","enum":null,"format":null,"maxLength":null,
             "pattern":null,"default":null,"description":null}},"required":null,"$defs":null})",
        {"{}", R"({"a":"x"})"},
        {R"({"a":1})"}},
       {R"({"type":"ARRAY","items":{"type":"Integer"}})", {"[1]"}, {"{}", "[1.5]"}},
       {R"({"type":"array","items":{"type":"any"}})", {R"([1,"a",{}])"}, {"1"}}});
}

TEST(SchemaFeatures, FormatsPatternsAndLengthsHoldAtOnce) {
  check({{R"({"type":"string","pattern":"^[a-z]+$","minLength":2,"maxLength":4})",
          {R"("ab")", R"("abcd")"},
          {R"("a")", R"("abcde")", R"("a1")"}},
         {R"({"type":"string","format":"email","maxLength":10})",
          {R"("a@b.co")"},
          {R"("longer@b.co")", R"("a@b")", R"("a b@c.de")"}},
         {R"({"type":"string","format":"uuid","minLength":36,"pattern":"^0"})",
          {R"("023e4567-E89b-12d3-a456-426614174000")"},
          {R"("123e4567-e89b-12d3-a456-426614174000")"}},
         {R"({"allOf":[{"type":"string","pattern":"^a"},{"pattern":"z$"},{"not":{"pattern":"q"}}]})",
          {R"("az")", R"("abz")"},
          {R"("aqz")", R"("ab")"}},
         // Lengths are of characters, however they are spelled.
         {R"({"type":"string","pattern":"^.+$","maxLength":2})",
          {R"("é🚀")", R"("\"\\")"},
          {R"("abc")", R"("")"}}});
  EXPECT_THAT(refusal_of(R"({"type":"string","pattern":"^a{3}$","minLength":5})"),
              HasSubstr("no string fits it"));
}

TEST(SchemaFeatures, FormatsOfStringsAreHeld) {
  const struct {
    const char* format;
    std::vector<const char*> good, bad;
  } cases[] = {
      {"date", {"2024-02-29", "2023-12-31"}, {"2023-02-29", "2023-04-31", "0000-01-01", "2023-1-1"}},
      {"time", {"23:59:59Z", "01:02:03.5+02:00"}, {"24:00:00Z", "01:02:03"}},
      {"duration", {"P1D", "PT5M", "P1Y2M3DT4H5M6S", "P2W"}, {"P", "PT", "1D", "P1S"}},
      {"email", {"a.b+c@example.com"}, {"a@", "@b.c", "a..b@c.de", "a@b"}},
      {"hostname", {"localhost", "a-b.example.org"}, {"-a", "a..b", "a_b", ""}},
      {"ipv6",
       {"::1", "1:2:3:4:5:6:7:8", "fe80::1", "::ffff:1.2.3.4", "1::"},
       {":::", "1:2", "1::2::3", "g::"}},
      {"uri",
       {"https://a.b/c?d=e#f", "mailto:a@b.c", "urn:x:y", "file:///a"},
       {"a/b", "http://", "http://a b", "%"}},
      {"uri-reference", {"/a", "../b?c", "#d", ""}, {"%zz", "a b"}},
      {"regex", {"^[a-z]+$", "(a|b)*", "\\d{2,4}"}, {"(", "[", "*a", "a{4,2}"}},
      {"json-pointer", {"", "/a/0/~1"}, {"a", "/~2"}},
      {"byte", {"", "YQ==", "YWI=", "YWJj"}, {"Y", "YQ=", "YQ"}},
  };
  for (const auto& one : cases) {
    AnySchema schema(Json{{"type", "string"}, {"format", one.format}}.dump());
    for (const char* good : one.good)
      EXPECT_TRUE(schema.takes(Json(good).dump())) << one.format << " " << good;
    for (const char* bad : one.bad) EXPECT_FALSE(schema.takes(Json(bad).dump())) << one.format << " " << bad;
  }
}

TEST(SchemaFeatures, NumbersHaveBoundsOf64BitsAndFormats) {
  check({{R"({"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807})",
          {"-9223372036854775808", "9223372036854775807", "0"},
          {"-9223372036854775809", "9223372036854775808", "1.0"}},
         {R"({"type":"integer","minimum":0,"maximum":18446744073709551615})",
          {"18446744073709551615"},
          {"18446744073709551616", "-1"}},
         {R"({"type":"number","minimum":-1.7976931348623157e308,"maximum":1.7976931348623157e308})",
          {"1e5", "-2"},
          {}},
         {R"({"type":"integer","format":"int32"})", {"2147483647", "-2147483648"}, {"2147483648"}},
         {R"({"type":"integer","minimum":0,"exclusiveMinimum":true,"maximum":3,"exclusiveMaximum":false})",
          {"1", "3"},
          {"0", "4"}},
         {R"({"allOf":[{"multipleOf":4},{"multipleOf":6}],"type":"integer"})",
          {"0", "12", "-24"},
          {"4", "6", "18"}},
         {R"({"oneOf":[{"type":"number"},{"type":"integer"}]})", {"1.5", "-0.25"}, {"1", "1.0", "0.0"}},
         {R"({"type":"integer","not":{"enum":[3,5]},"minimum":2,"maximum":6})",
          {"2", "4", "6"},
          {"3", "5", "7"}}});
}

TEST(SchemaFeatures, ReferencesLeadAnywhereInTheSchema) {
  check(
      {{R"({"$defs":{"a/b~c":{"type":"integer"},"d e":{"type":"null"},"l":[{"type":"null"},{"type":"boolean"}]},
             "properties":{"a":{"$ref":"#/$defs/a~1b~0c"},"b":{"$ref":"#/%24defs/d%20e"},"c":{"$ref":"#/$defs/l/1"},
             "d":{"$ref":"#/properties/a"}},"required":["a","b","c","d"]})",
        {R"({"a":1,"b":null,"c":true,"d":2})"},
        {R"({"a":1,"b":1,"c":true,"d":2})"}},
       {R"({"$defs":{"A":{"$anchor":"foo","type":"integer"}},"items":{"$ref":"#foo"}})", {"[1]"}, {"[true]"}},
       {R"({"$id":"https://e.x/root.json","$defs":{"B":{"$id":"b.json","type":"string"}},
             "items":{"$ref":"b.json"},"contains":{"$ref":"https://e.x/root.json#/$defs/B"}})",
        {R"(["x"])"},
        {"[1]", "[]"}},
       {R"({"$defs":{"S":{"type":"string"}},"$ref":"#/$defs/S","maxLength":1})",
        {R"("a")"},
        {R"("ab")", "1"}},
       {R"({"$defs":{"S":{"type":"string"}},"properties":{"a":{"$ref":"#/$defs/S","nullable":true}},"required":["a"]})",
        {R"({"a":null})", R"({"a":"x"})"},
        {R"({"a":1})"}}});
}

TEST(SchemaFeatures, AllThatHoldIsMerged) {
  check({{R"({"allOf":[{"type":"object","properties":{"a":{"type":"number","minimum":1}}},
              {"properties":{"a":{"type":"integer","maximum":5},"b":{"type":"null"}},"required":["a"]}]})",
          {R"({"a":1})", R"({"a":5,"b":null})"},
          {R"({"a":1.5})", R"({"a":6})", "{}"}},
         {R"({"allOf":[{"enum":[1,2,"a"]},{"enum":["a",2.0,3]}]})", {"2", R"("a")"}, {"1", "3"}},
         {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},
              "anyOf":[{"required":["a"]},{"required":["b"]}]})",
          {R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
          {"{}"}},
         {R"({"allOf":[{"properties":{"a":{"type":"null"}}}],"properties":{"b":{"type":"null"}},
              "unevaluatedProperties":false})",
          {R"({"b":null,"a":null})", "{}"},
          {R"({"c":null})"}}});
}

TEST(SchemaFeatures, OneOfHoldsExactlyOne) {
  check({{R"({"oneOf":[{"type":"string","maxLength":3},{"type":"string","minLength":2}]})",
          {R"("a")", R"("abcd")"},
          {R"("ab")", R"("abc")"}},
         {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},
              "oneOf":[{"required":["a"]},{"required":["b"]}]})",
          {R"({"a":null})", R"({"b":null})"},
          {R"({"a":null,"b":null})", "{}"}},
         {R"({"oneOf":[{"const":"a","title":"A"},{"const":"b"}]})", {R"("a")", R"("b")"}, {R"("c")"}},
         {R"({"oneOf":[{"type":"integer"},{"type":"integer"}],"anyOf":[{"type":"string"},{"type":"integer"}],
              "nullable":true})",
          {"null"},
          {"1", R"("a")"}}});
}

TEST(SchemaFeatures, WhatMustNotHoldDoesNot) {
  check(
      {{R"({"not":{"type":["null","array"]}})", {"1", R"("x")", "{}"}, {"null", "[]"}},
       {R"({"type":"string","not":{"const":"admin"}})", {R"("adm")", R"("administrator")"}, {R"("admin")"}},
       {R"({"type":"object","properties":{"a":{"not":{}},"b":{"type":"null"}}})",
        {"{}", R"({"b":null})"},
        {R"({"a":1})"}},
       {R"({"type":"object","properties":{"kind":{"enum":["a","b"]},"x":{"type":"null"}},"required":["kind"],
              "if":{"properties":{"kind":{"const":"a"}}},"then":{"required":["x"]},"else":{"not":{"required":["x"]}}})",
        {R"({"kind":"a","x":null})", R"({"kind":"b"})"},
        {R"({"kind":"a"})", R"({"kind":"b","x":null})"}},
       {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"dependentRequired":{"a":["b"]}})",
        {"{}", R"({"b":null})", R"({"a":null,"b":null})"},
        {R"({"a":null})"}}});
}

TEST(SchemaFeatures, MembersAreHeldByTheirNames) {
  check(
      {{R"({"type":"object","patternProperties":{"^s_":{"type":"string"},"_i$":{"type":"integer"}},
              "additionalProperties":false})",
        {"{}", R"({"s_a":"x","b_i":1})"},
        {R"({"s_a":1})", R"({"c":1})", R"({"s_i":1})", R"({"s_i":"x"})"}},
       {R"({"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":{"type":"integer"}})",
        {R"({"a":"x","b":1})", R"({"b":1, "aa":2})", "{}"},
        {R"({"a":"x","a":1})", R"({"b":"x"})"}},
       {R"({"type":"object","propertyNames":{"pattern":"^[a-z]+$"},"additionalProperties":{"type":"integer"}})",
        {R"({"ab":1})"},
        {R"({"A":1})"}},
       {R"({"type":"object","propertyNames":{"enum":["x","y"]},"additionalProperties":{"type":"null"}})",
        {"{}", R"({"x":null,"y":null})"},
        {R"({"z":null})", R"({"x":1})"}},
       {R"({"properties":{"a":{},"b":{},"c":{}},"additionalProperties":false,"minProperties":2,"maxProperties":2})",
        {R"({"a":1,"c":2})"},
        {R"({"a":1})", R"({"a":1,"b":2,"c":3})", "{}"}},
       {R"({"type":"object","additionalProperties":{"type":"null"},"minProperties":1,"maxProperties":2})",
        {R"({"a":null})", R"({"a":null,"b":null})"},
        {"{}", R"({"a":null,"b":null,"c":null})"}}});
}

TEST(SchemaFeatures, ArraysOfEveryDraft) {
  check(
      {{R"({"type":"array","items":[{"type":"integer"},{"type":"null"}],"additionalItems":{"type":"boolean"}})",
        {"[1,null]", "[1, null, true]"},
        {"[1,null,2]", "[null,1]"}},
       {R"({"prefixItems":[{"type":"integer"},{"type":"null"}],"items":false,"minItems":1})",
        {"[1]", "[1,null]"},
        {"[]"}},
       {R"({"items":{"type":"integer"},"contains":{"const":5},"minItems":2})",
        {"[1,5]", "[5,5,1]"},
        {"[5]", "[1,2]"}},
       {R"({"items":{"enum":[1,2]},"contains":{"const":1},"maxContains":1})",
        {"[1]", "[2,1,2]"},
        {"[1,1]", "[2]"}}});
}

// Members beyond the limit on nested calls could not be written once.
TEST(SchemaFeatures, ThousandsOfOptionalMembersMayComeOrNot) {
  std::string schema = R"({"type":"object","additionalProperties":false,"properties":{)";
  for (int i = 0; i < 2500; ++i) schema += odmoe::format(R"({}"p{}":{{"type":"null"}})", i > 0 ? "," : "", i);
  AnySchema many(schema + "}}");
  EXPECT_TRUE(many.takes("{}"));
  EXPECT_TRUE(many.takes(R"({"p2499":null})"));
  EXPECT_TRUE(many.takes(R"({"p0":null,"p700":null, "p2498":null})"));
  EXPECT_FALSE(many.takes(R"({"p700":null,"p0":null})"));
  EXPECT_FALSE(many.takes(R"({"p2500":null})"));
}

TEST(SchemaFeatures, LongStringsAndListsTakeNoStateForEachCharacter) {
  const auto grammar =
      json_schema_grammar(Json::parse(R"({"type":"string","minLength":3,"maxLength":1048576})"));
  ASSERT_TRUE(grammar.has_value());
  EXPECT_LT((*grammar)->n_state(), 1000);
  for (const int most : {5, 9, 100, 1000}) {
    AnySchema schema(odmoe::format(R"({{"type":"string","minLength":{},"maxLength":{}}})", most / 3, most));
    for (const int length : {most / 3 - 1, most / 3, most / 2, most - 1, most, most + 1}) {
      EXPECT_EQ(schema.takes('"' + std::string(static_cast<size_t>(length), 'x') + '"'),
                length >= most / 3 && length <= most)
          << length << " of " << most;
    }
  }
}

// Nothing may lead to where no end can be reached.
TEST(SchemaFeatures, WhatCannotEndIsNotBegun) {
  AnySchema schema(
      R"({"$defs":{"endless":{"type":"object","properties":{"n":{"$ref":"#/$defs/endless"}},"required":["n"]}},
                    "type":"object","properties":{"a":{"$ref":"#/$defs/endless"},"b":{"type":"null"}}})");
  EXPECT_TRUE(schema.takes(R"({"b":null})"));
  EXPECT_FALSE(schema.takes(R"({"a":{)"));
  // Nor so deep that nothing could be closed any more.
  const auto grammar = json_schema_grammar(Json::parse(
      R"({"$defs":{"n":{"anyOf":[{"type":"null"},{"type":"array","items":{"$ref":"#/$defs/n"},"minItems":1}]}},
                      "$ref":"#/$defs/n"})"));
  ASSERT_TRUE(grammar.has_value());
  Automaton automaton(*grammar);
  int32_t state = automaton.start();
  size_t depth = 0;
  for (int32_t next = state; (next = automaton.next(state, '[')) != Automaton::kDead; ++depth) state = next;
  EXPECT_GT(depth, 50);
  for (const char c : "null" + std::string(depth, ']')) {
    state = automaton.next(state, static_cast<uint8_t>(c));
    ASSERT_NE(state, Automaton::kDead);
  }
  EXPECT_TRUE(automaton.accepts(state));
}

}  // namespace
}  // namespace odmoe::grammar
