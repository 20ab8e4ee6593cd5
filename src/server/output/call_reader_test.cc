#include "server/output/call_reader.h"

#include <gtest/gtest.h>

#include "server/json_guard.h"
#include "server/output/argument_types.h"
#include "server/output/json_scanner.h"
#include "server/output/python_calls.h"

namespace odmoe::server {
namespace {

// How many bytes of the text the value takes; 0: it is none, or not whole.
size_t json_size(std::string_view text) {
  JsonScanner scanner;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto step = scanner.push(text[i]);
    if (step == JsonScanner::Step::kEnd) return i + 1;
    if (step == JsonScanner::Step::kWrong) return 0;
  }
  return 0;
}

TEST(JsonScanner, FindsTheEndOfAValueWhateverItsStringsSpell) {
  for (const char* whole : {"{}", "[]", "\"\"", " {\"a\": [1, -2.5e3, true, null, {\"b\": \"}]\\\"\"}]}",
                            "[[[]]]", "{\"a\":1,\"b\":{}}", "\"\\u00e4\""}) {
    EXPECT_EQ(json_size(whole), std::string_view(whole).size()) << whole;
    EXPECT_EQ(json_size(std::string(whole) + "}] x"), std::string_view(whole).size()) << whole;
    EXPECT_EQ(json_size(std::string_view(whole).substr(0, std::string_view(whole).size() - 1)), 0) << whole;
  }
  for (const char* wrong : {"x", "1", "{]", "[}", "{1:2}", "{\"a\" 1}", "{\"a\":}", "[,]", "{,}",
                            "{\"a\":1,}", "[1 2]", "\"\\x\"", "{\"a\":<", "]"}) {
    EXPECT_EQ(json_size(wrong), 0) << wrong;
  }
  EXPECT_EQ(json_size(std::string(kMaxScannedDepth, '[') + std::string(kMaxScannedDepth, ']')),
            2 * kMaxScannedDepth);
  EXPECT_EQ(json_size(std::string(kMaxScannedDepth + 1, '[')), 0);
}

TEST(JsonScanner, WhatModelsWriteIntoStringsBecomesJson) {
  JsonScanner scanner;
  for (const char c : std::string("{\"a\": \"x\ny\tz \\'\"}")) scanner.push(c);
  EXPECT_EQ(Json::parse(scanner.text()), Json::parse(R"({"a": "x\ny\tz '"})"));
}

TEST(PythonCalls, LiteralsBecomeJson) {
  const auto arguments = [](std::string_view text) {
    const auto calls = parse_python_calls(text);
    return calls && calls->size() == 1 ? (*calls)[0].arguments : std::string("none");
  };
  EXPECT_EQ(arguments("f()"), "{}");
  EXPECT_EQ(arguments("[f(a=1, b=-2.5, c=True, d=None, e=false, g=null,)]"),
            R"({"a":1,"b":-2.5,"c":true,"d":null,"e":false,"g":null})");
  EXPECT_EQ(arguments(R"(f(a="x\n\"y\"", b='it\'s', c='\u00e4\x41\U0001F600', d="\ud83d\ude00", e='a' "b"))"),
            "{\"a\":\"x\\n\\\"y\\\"\",\"b\":\"it's\",\"c\":\"äA😀\",\"d\":\"😀\",\"e\":\"ab\"}");
  EXPECT_EQ(arguments("f(a=[1, [2], (3, 4)], b={'k': {\"l\": []}, 5: 6})"),
            R"({"a":[1,[2],[3,4]],"b":{"k":{"l":[]},"5":6}})");
  EXPECT_EQ(arguments("brave_search.call(query=\"x\")"), R"({"query":"x"})");
  for (const char* wrong : {"", "f", "f(", "f(1)", "f(a=)", "f(a=b)", "f(a=1", "f(a='x)", "f() g()",
                            "[f(), 1]", "[]", "f(a=1 b=2)", "f(a='\\u12')"}) {
    EXPECT_FALSE(parse_python_calls(wrong).has_value()) << wrong;
  }
  std::string deep = "f(a=";
  for (int i = 0; i < 1000; ++i) deep += '[';
  EXPECT_FALSE(parse_python_calls(deep).has_value());
  EXPECT_EQ(parse_python_calls("[f(), g(x=1)]")->size(), 2);
}

TEST(ArgumentTypes, ATextIsWhatItsSchemaSays) {
  const auto typed = [](const char* schema, std::string_view text) {
    const Json json = Json::parse(schema);
    return dump_json(typed_argument(text, argument_types(json, json)));
  };
  EXPECT_EQ(typed(R"({"type":"string"})", "12"), "\"12\"");
  EXPECT_EQ(typed(R"({"enum":["1","2"]})", "1"), "\"1\"");
  EXPECT_EQ(typed(R"({"type":"integer"})", " 12\n"), "12");
  EXPECT_EQ(typed(R"({"type":"number"})", "x"), "\"x\"");
  EXPECT_EQ(typed(R"({"type":["string","null"]})", "null"), "null");
  EXPECT_EQ(typed(R"({"type":["string","null"]})", "12"), "\"12\"");
  EXPECT_EQ(typed(R"({"anyOf":[{"type":"integer"},{"type":"null"}]})", "5"), "5");
  EXPECT_EQ(typed(R"({"type":"boolean"})", "False"), "false");
  EXPECT_EQ(typed(R"({"type":"object"})", "{\"a\":1}"), "{\"a\":1}");
  EXPECT_EQ(typed(R"({"type":"string"})", "{\"a\":1}"), "\"{\\\"a\\\":1}\"");
  EXPECT_EQ(typed("{}", "12"), "12");
  EXPECT_EQ(typed("{}", "twelve"), "\"twelve\"");
  EXPECT_EQ(typed("true", ""), "\"\"");
  // References of the whole, also to themselves.
  EXPECT_EQ(typed(R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"string"}}})", "1"), "\"1\"");
  EXPECT_EQ(typed(R"({"$ref":"#/$defs/n","$defs":{"n":{"$ref":"#/$defs/n"}}})", "1"), "1");
  EXPECT_EQ(typed(R"({"$ref":"#/no/such"})", "1"), "1");
}

}  // namespace
}  // namespace odmoe::server
