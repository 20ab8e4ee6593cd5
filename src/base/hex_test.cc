#include "base/hex.h"

#include <gtest/gtest.h>

#include <string_view>

namespace odmoe {
namespace {

TEST(Hex, DigitsOfBothCasesHaveAValue) {
  EXPECT_EQ(hex_digit('0'), 0);
  EXPECT_EQ(hex_digit('9'), 9);
  EXPECT_EQ(hex_digit('a'), 10);
  EXPECT_EQ(hex_digit('F'), 15);
  for (const char c : std::string_view("/:@G`g \0", 8)) EXPECT_EQ(hex_digit(c), -1) << static_cast<int>(c);
}

TEST(Hex, BytesComeBackFromTheirDigits) {
  const std::string bytes("\x00\x7F\xA5\xFF", 4);
  EXPECT_EQ(to_hex(std::as_bytes(std::span(bytes))), "007fa5ff");
  EXPECT_EQ(from_hex("007fa5ff"), bytes);
  EXPECT_EQ(from_hex(""), "");
  for (const char* other : {"0", "0g", "FF", " 00"}) EXPECT_FALSE(from_hex(other).has_value()) << other;
}

}  // namespace
}  // namespace odmoe
