#include "base/json_surrogates.h"

#include <gtest/gtest.h>

namespace odmoe {
namespace {

TEST(JsonSurrogates, HalvesThatStandAloneAreReplaced) {
  const auto mended = [](const char* json) { return without_lone_surrogates(json).value_or("as it is"); };
  EXPECT_EQ(mended(R"("\ud83d")"), R"("\ufffd")");
  EXPECT_EQ(mended(R"("a\uDE00b")"), R"("a\ufffdb")");
  EXPECT_EQ(mended(R"("\ud83d\ud83d\ude00\ude00")"), R"("\ufffd\ud83d\ude00\ufffd")");
  EXPECT_EQ(mended(R"("\ud83d\n")"), R"("\ufffd\n")");
}

TEST(JsonSurrogates, OtherTextsStayAsTheyAre) {
  for (const char* json :
       {"", "{}", R"("\ud83d\ude00")", R"("\\ud83d")", R"("\u00e4")", R"("\ud8")", R"("\ud8zz")", "\\"}) {
    EXPECT_FALSE(without_lone_surrogates(json).has_value()) << json;
  }
}

}  // namespace
}  // namespace odmoe
