#include "base/ordered_json.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "odmoe/format.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;
using Kind = JsonError::Kind;

TEST(OrderedJson, ReadsWhatTheLibraryReadsAndRefusesWhatItRefuses) {
  std::mt19937 random(1);
  constexpr std::string_view kPieces[] = {"{",     "}",           "[",     "]",     ",",     ":",
                                          "\"a\"", "\"b\"",       "\"\"",  "1",     "-2",    "3.5",
                                          "1e9",   "\"\\u00e9\"", "null",  "true",  "false", "\"\\\"",
                                          " ",     "{\"a\":1}",   "[1,2]", "\"k\":"};
  size_t valid = 0;
  for (int i = 0; i < 40'000; ++i) {
    std::string text = random() % 2 == 0 ? "{\"a\":" : "[";
    for (size_t n = random() % 8; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    text += text[0] == '[' ? "]" : "}";
    const Json right = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    const auto read = read_ordered_json(text);
    ASSERT_EQ(read.has_value(), !right.is_discarded()) << text;
    if (!read.has_value()) continue;
    ASSERT_EQ(read->dump(), right.dump()) << text;
    ++valid;
  }
  EXPECT_GT(valid, 300);
}

TEST(OrderedJson, OfTwoMembersWithOneKeyTheLastCountsWhereTheFirstStood) {
  EXPECT_EQ(read_ordered_json(R"({"a":1,"b":2,"a":{"c":3}})")->dump(), R"({"a":{"c":3},"b":2})");
  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += odmoe::format("\"k{}\":{},", i, i);
  const Json json = *read_ordered_json(many + "\"k50\":-1,\"k3\":-2}");
  ASSERT_EQ(json.size(), 100);
  EXPECT_EQ(json["k50"], -1);
  EXPECT_EQ(std::next(json.begin(), 3).key(), "k3");
  EXPECT_EQ(json["k3"], -2);
}

// With a look through all keys for each of them this would take many minutes.
TEST(OrderedJson, AnObjectOfTwoHundredThousandKeysIsOrdinaryWork) {
  constexpr size_t kMany = 200'000;
  std::string text = "{";
  for (size_t i = 0; i < kMany; ++i) text += odmoe::format("\"key{}\":1,", i);
  text.back() = '}';
  EXPECT_EQ(read_ordered_json(text)->size(), kMany);
}

TEST(OrderedJson, EveryLimitIsKeptAndNamed) {
  const auto kind = [](std::string_view text, const JsonLimits& limits) {
    const auto read = read_ordered_json(text, limits);
    return read.has_value() ? std::optional<Kind>() : read.error().kind;
  };
  EXPECT_EQ(kind("[[1]]", {.depth = 2}), std::nullopt);
  EXPECT_EQ(kind("[[[1]]]", {.depth = 2}), Kind::kDepth);
  EXPECT_EQ(kind(R"({"a":1,"b":2,"a":3})", {.keys = 2}), std::nullopt);
  EXPECT_EQ(kind(R"({"a":1,"b":2,"c":3})", {.keys = 2}), Kind::kKeys);
  EXPECT_EQ(kind("[1,2,3]", {.bytes = 4 * kJsonValueBytes + kJsonContainerBytes}), std::nullopt);
  EXPECT_EQ(kind("[1,2,3,4]", {.bytes = 4 * kJsonValueBytes + kJsonContainerBytes}), Kind::kBytes);
  EXPECT_EQ(kind("[1,", {}), Kind::kSyntax);
}

TEST(OrderedJson, WhoIsAskedForMemoryMayEndIt) {
  std::string text = "[";
  for (int i = 0; i < 100'000; ++i) text += "[],";
  text += "0]";
  size_t taken = 0, most_at_once = 0;
  const JsonLimits all{.take = [&](size_t bytes) {
    taken += bytes;
    most_at_once = std::max(most_at_once, bytes);
    return true;
  }};
  ASSERT_TRUE(read_ordered_json(text, all).has_value());
  EXPECT_GE(taken, 100'000 * (kJsonValueBytes + kJsonContainerBytes));
  EXPECT_LT(most_at_once, 20'000);
  int left = 3;
  const auto ended = read_ordered_json(text, {.take = [&](size_t) { return --left > 0; }});
  ASSERT_FALSE(ended.has_value());
  EXPECT_EQ(ended.error().kind, Kind::kEnded);
  EXPECT_EQ(left, 0);
}

TEST(OrderedJson, TheLongestStringIsFoundWithoutReading) {
  EXPECT_EQ(longest_json_string(R"({"a":"bcd","e":[1,"fg"]})"), 3);
  EXPECT_EQ(longest_json_string(R"(["a\"b\\","c"])"), 6);
  EXPECT_EQ(longest_json_string(R"(["unfinished)"), 10);
  EXPECT_EQ(longest_json_string(R"(["x\)"), 2);
  EXPECT_EQ(longest_json_string("[1]"), 0);
}

TEST(OrderedJson, NumbersThatNobodyMeansAreRefusedInAShortMessage) {
  const std::string digits(kMaxJsonNumberBytes, '1');
  const auto around = [](const char* before, const std::string& middle, const char* behind) {
    return std::string(before).append(middle).append(behind);
  };
  EXPECT_TRUE(read_ordered_json(around("[0.", digits.substr(2), "]")).has_value());
  EXPECT_TRUE(read_ordered_json(around("[\"", around("", digits, "\\\""), "") + around("", digits, "\"]"))
                  .has_value());
  for (const std::string& text :
       {around("[1", digits, "]"), around("{\"a\":0.", digits, "}"), around("[1e", digits, "]")}) {
    const auto json = read_ordered_json(text);
    ASSERT_FALSE(json.has_value());
    EXPECT_EQ(json.error().kind, JsonError::Kind::kSyntax);
    EXPECT_LT(json.error().message.size(), 200U);
  }
  const auto overflow = read_ordered_json(around("[", digits.substr(1), "]"));  // no double is as large
  ASSERT_FALSE(overflow.has_value());
  EXPECT_LE(overflow.error().message.size(), 200U);
}

}  // namespace
}  // namespace odmoe
