#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace odmoe {
namespace {

void expect(std::string_view bytes, bool valid, size_t length, bool truncated, uint32_t code_point = 0) {
  const Utf8Char c = read_utf8(bytes);
  EXPECT_EQ(c.valid, valid) << ::testing::PrintToString(bytes);
  EXPECT_EQ(c.length, length) << ::testing::PrintToString(bytes);
  EXPECT_EQ(c.truncated, truncated) << ::testing::PrintToString(bytes);
  EXPECT_EQ(c.code_point, code_point) << ::testing::PrintToString(bytes);
}

TEST(Utf8, ReadsCharactersOfEveryLength) {
  expect(std::string_view("\0x", 2), true, 1, false, 0);
  expect("\x7F", true, 1, false, 0x7F);
  expect("\xC2\x80", true, 2, false, 0x80);
  expect("\xDF\xBF", true, 2, false, 0x7FF);
  expect("\xE0\xA0\x80", true, 3, false, 0x800);
  expect("\xEF\xBF\xBFz", true, 3, false, 0xFFFF);
  expect("\xF0\x90\x80\x80", true, 4, false, 0x10000);
  expect("\xF4\x8F\xBF\xBF", true, 4, false, 0x10FFFF);
}

TEST(Utf8, RefusesWhatTheStandardDoes) {
  expect("\x80", false, 1, false);              // a continuation alone
  expect("\xC1\xBF", false, 1, false);          // overlong
  expect("\xE0\x9F\xBF", false, 1, false);      // overlong
  expect("\xF0\x8F\xBF\xBF", false, 1, false);  // overlong
  expect("\xED\xA0\x80", false, 1, false);      // a surrogate
  expect("\xF4\x90\x80\x80", false, 1, false);  // above U+10FFFF
  expect("\xFF", false, 1, false);
  expect("\xE2\x82x", false, 2, false);  // cut short by another character
}

TEST(Utf8, TellsWhatMoreBytesCouldComplete) {
  expect("\xC3", false, 1, true);
  expect("\xE2\x82", false, 2, true);
  expect("\xF0\x9F\x9A", false, 3, true);
}

TEST(Utf8, WritesWhatItReads) {
  for (const uint32_t c : {0x0U, 0x7FU, 0x80U, 0x7FFU, 0x800U, 0xFFFFU, 0x10000U, 0x10FFFFU}) {
    const std::string text = to_utf8(c);
    expect(text, true, text.size(), false, c);
  }
}

TEST(Utf8, ATextIsValidWhereAllOfItIs) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("a\xE2\x82\xAC"));
  EXPECT_FALSE(is_utf8("a\xE2\x82"));
  EXPECT_FALSE(
      is_utf8("\x82"
              "a"));
}

}  // namespace
}  // namespace odmoe
