#include "base/json_members.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace odmoe {
namespace {

using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

template <bool Lenient>
struct TestWords {
  using Error = std::string;
  static constexpr bool kNullIsMissing = Lenient, kFloatsAreNumbers = Lenient;
  static constexpr size_t kMaxTextBytes = Lenient ? std::string::npos : 3;
  std::string missing(std::string_view key) const { return std::string(key) + " is missing"; }
  std::string wrong(std::string_view key, std::string_view wanted, const Json& found) const {
    return odmoe::format("{} is {}, not {}", key, found.dump(), wanted);
  }
};
using Strict = JsonMembers<Json, TestWords<false>>;
using Lenient = JsonMembers<Json, TestWords<true>>;

TEST(JsonMembers, OfTheTypeAndWithinTheBoundsAreRead) {
  const Json json = Json::parse(
      R"({"i":5,"u":18446744073709551615,"f":5.0,"g":0.5,"b":true,"s":"abcd","n":null,"l":[1,2],"o":{"x":1}})");
  const Strict members(json);
  EXPECT_EQ(members.integer("i", 5, 5).value(), 5);
  EXPECT_EQ(members.integer("i", 6, 9).error(), "i is 5, not a whole number from 6 to 9");
  EXPECT_FALSE(members.integer("u", 0, std::numeric_limits<int64_t>::max()).has_value());
  EXPECT_FALSE(members.integer("f", 0, 9).has_value());
  EXPECT_FALSE(members.integer("b", 0, 9).has_value());
  EXPECT_EQ(members.integer("z", 0, 9).error(), "z is missing");
  EXPECT_EQ(members.number("g").value(), 0.5);
  EXPECT_EQ(members.number("i").value(), 5);
  EXPECT_EQ(members.number("s").error(), "s is \"abcd\", not a number");
  EXPECT_EQ(members.number("g", 1, 2).error(), "g is 0.5, not a number from 1 to 2");
  EXPECT_TRUE(members.boolean("b").value());
  EXPECT_EQ(members.boolean("i").error(), "i is 5, not true or false");
  EXPECT_THAT(members.text("s").error(), StartsWith("s is \"abcd\", not a string of at most 3 bytes"));
  EXPECT_EQ(members.array("l", 2).value()->size(), 2U);
  EXPECT_EQ(members.array("l", 1).error(), "l is [1,2], not an array of at most 1 members");
  EXPECT_FALSE(members.array("o", 2).has_value());
  EXPECT_TRUE(members.object("o", 1).has_value());
  EXPECT_TRUE(members.has("n"));
  EXPECT_FALSE(members.boolean("n").has_value());
}

TEST(JsonMembers, TheCallerSaysHowLenientItIs) {
  const Json json = Json::parse(R"({"f":5.0,"g":0.5,"h":1e300,"s":"abcd","n":null})");
  const Lenient members(json);
  EXPECT_EQ(members.integer("f", 0, 9).value(), 5);
  EXPECT_FALSE(members.integer("g", 0, 9).has_value());
  EXPECT_FALSE(members.integer("h", 0, std::numeric_limits<int64_t>::max()).has_value());
  EXPECT_FALSE(members.number("h").has_value());
  EXPECT_EQ(members.text("s").value(), "abcd");
  EXPECT_FALSE(members.has("n"));
  EXPECT_EQ(members.text("n").error(), "n is missing");
}

TEST(JsonMembers, WhatIsNoObjectHasNone) {
  const Json json = Json::array({1});
  EXPECT_FALSE(Strict(json).has("x"));
  EXPECT_EQ(Strict(json).boolean("x").error(), "x is missing");
}

TEST(JsonMembers, TheFirstErrorIsKeptAndNothingIsReadAfterIt) {
  const Json json = Json::parse(R"({"a":1,"b":true,"c":"abc","d":2,"e":1.5,"l":[]})");
  FirstErrorMembers<Json, TestWords<false>> members(json);
  int a = 0, d = 0;
  bool b = false;
  float e = 0;
  std::string c;
  members.get("a", a, 0, 9);
  members.get("b", b);
  members.get("c", c);
  members.get("e", e);
  EXPECT_NE(members.array("l"), nullptr);
  ASSERT_TRUE(members.status.has_value());
  EXPECT_TRUE(a == 1 && b && c == "abc" && e == 1.5F);
  members.wrong("c", "a colour");
  members.get("d", d, 0, 9);
  members.get("b", a, 0, 9);
  EXPECT_EQ(d, 0);
  EXPECT_EQ(members.object("o"), nullptr);
  EXPECT_EQ(members.status.error(), "c is \"abc\", not a colour");
}

}  // namespace
}  // namespace odmoe
