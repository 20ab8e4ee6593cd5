#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "grammar/json_schema.h"
#include "odmoe/format.h"

namespace odmoe::grammar {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;

// A step takes less than 100 ns: these are compiled in much less than 50 ms.
constexpr uint64_t kFewSteps = 500'000;
constexpr size_t kFewBytes = 4 << 20;

TEST(SchemaLimits, WhatGeneratorsWriteIsCompiledInFewStepsAndBytes) {
  const char* shared = std::getenv("ODMOE_SHARED");
  if (shared == nullptr) GTEST_SKIP() << "ODMOE_SHARED does not name the folder with the generators' schemas";
  std::ifstream file(std::filesystem::path(shared) / "schemas/generated.json");
  // No value, or no finite one, is valid under these.
  const std::set<std::string> impossible = {
      "other ref self only", "other ref cycle", "other recursive required (no end)",
      "other allOf two (inheritance)", "other required missing props closed"};
  size_t n = 0;
  const Json all = Json::parse(file);
  for (const auto& [name, schema] : all.items()) {
    GrammarBuilder builder;
    const auto root = add_json_schema(builder, schema);
    const auto grammar = root.has_value() ? builder.build(*root) : std::unexpected(root.error());
    EXPECT_EQ(grammar.has_value(), !impossible.contains(name))
        << name << ": " << (grammar.has_value() ? "" : grammar.error().message);
    EXPECT_LT(builder.work().spent(), kFewSteps) << name;
    EXPECT_LT(grammar.has_value() ? (*grammar)->bytes() : 0, kFewBytes) << name;
    ++n;
  }
  EXPECT_GE(n, 227);
}

std::string repeated(int n, auto part) {
  std::string all;
  for (int i = 0; i < n; ++i) all += (i > 0 ? "," : "") + part(i);
  return all;
}

// Each ends, within the limits, with a grammar or with an error that says what is too large.
TEST(SchemaLimits, HostileSchemasEndWithinTheLimits) {
  const auto alternatives = [](int i) {
    return odmoe::format(
        R"({{"anyOf":[{{"required":["a{0}"]}},{{"required":["b{0}"]}},{{"minProperties":{0}}}]}})", i);
  };
  const std::string hostile[] = {
      odmoe::format(R"({{"allOf":[{}]}})", repeated(40, alternatives)),
      odmoe::format(R"({{"oneOf":[{}]}})",
                    repeated(300,
                             [](int i) {
                               return odmoe::format(
                                   R"({{"properties":{{"a":{{"minimum":{0}}},"b":{{"pattern":"{0}"}}}}}})",
                                   i);
                             })),
      odmoe::format(R"({{"enum":[{}]}})",
                    repeated(200'000, [](int i) { return odmoe::format("\"value{}\"", i); })),
      odmoe::format(R"({{"type":"object","properties":{{{}}}}})",
                    repeated(12'000,
                             [](int i) {
                               return odmoe::format(
                                   R"("a property with a rather long name {}":{{"type":"string"}})", i);
                             })),
      odmoe::format(
          R"({{"allOf":[{}]}})",
          repeated(60,
                   [](int i) { return odmoe::format(R"({{"type":"string","pattern":"a.{{{}}}b"}})", i); })),
      R"({"type":"string","pattern":"^(?:.*a.{40})$","minLength":3})",
      R"({"type":"string","pattern":"((a{1000}){1000}){1000}","maxLength":1000000000})",
      R"x({"type":"string","pattern":"^[a-z]{3,900}[^x]{3,900}(?!q)","minLength":800,"maxLength":1700})x",
      odmoe::format(
          R"({{"type":"object","patternProperties":{{{}}}}})",
          repeated(6, [](int i) { return odmoe::format(R"("{}.*[a-f]{{9}}x":{{"type":"null"}})", i); })),
      odmoe::format(R"({{"type":"object","properties":{{{}}},"minProperties":900,"maxProperties":1000}})",
                    repeated(2000, [](int i) { return odmoe::format(R"("p{}":{{"type":"string"}})", i); })),
      R"({"$defs":{"a":{"properties":{"x":{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}]}}},
                   "b":{"properties":{"x":{"allOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/c"}]}}},
                   "c":{"properties":{"x":{"anyOf":[{"$ref":"#/$defs/c"},{"$ref":"#/$defs/a"}]}}}},"$ref":"#/$defs/a"})",
  };
  for (const std::string& schema : hostile) {
    GrammarBuilder builder;
    const auto root = add_json_schema(builder, Json::parse(schema));
    const auto grammar = root.has_value() ? builder.build(*root) : std::unexpected(root.error());
    EXPECT_LE(builder.work().spent(), kMaxCompileSteps);
    if (grammar.has_value()) {
      EXPECT_LE((*grammar)->bytes(), Grammar::kMaxBytes) << schema.substr(0, 100);
    } else {
      EXPECT_THAT(grammar.error().message, HasSubstr("too large")) << schema.substr(0, 100);
    }
  }
}

TEST(SchemaLimits, SchemasThatNestAreReadAsDeepAsTheyAre) {
  std::string schema = R"({"type":"integer"})";
  for (int i = 0; i < 200; ++i) schema = R"({"type":"array","items":)" + schema + "}";
  EXPECT_TRUE(json_schema_grammar(Json::parse(schema)).has_value());
  std::string all = R"({"type":"integer"})";
  for (int i = 0; i < 200; ++i) all = R"({"allOf":[)" + all + "]}";
  const auto grammar = json_schema_grammar(Json::parse(all));
  ASSERT_FALSE(grammar.has_value());
  EXPECT_THAT(grammar.error().message, HasSubstr("nests deeper"));
}

TEST(SchemaLimits, CompilingStopsWhenAsked) {
  const auto grammar = json_schema_grammar(
      Json::parse(R"({"type":"string","pattern":"^[a-z]{1,50}x[a-z]{1,50}$","maxLength":99})"),
      [] { return true; });
  ASSERT_FALSE(grammar.has_value());
  EXPECT_EQ(grammar.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace odmoe::grammar
