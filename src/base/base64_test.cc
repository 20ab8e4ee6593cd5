#include "base/base64.h"

#include <gtest/gtest.h>

namespace odmoe {
namespace {

TEST(Base64, IsReadExactly) {
  EXPECT_EQ(decode_base64("aGVsbG8=", 100), "hello");
  EXPECT_EQ(decode_base64("aGVs\nbG8", 100), "hello");
  EXPECT_EQ(decode_base64("", 100), "");
  EXPECT_FALSE(decode_base64("a", 100).has_value());
  EXPECT_FALSE(decode_base64("aGVsbG8=x", 100).has_value());
  EXPECT_FALSE(decode_base64("aGVsbG8=", 4).has_value());
}

}  // namespace
}  // namespace odmoe
