#include "base/base64.h"

#include <gtest/gtest.h>

#include <string>

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

TEST(Base64, IsWrittenAsItIsRead) {
  EXPECT_EQ(encode_base64(""), "");
  EXPECT_EQ(encode_base64("f"), "Zg==");
  EXPECT_EQ(encode_base64("fo"), "Zm8=");
  EXPECT_EQ(encode_base64("foo"), "Zm9v");
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(decode_base64(encode_base64(bytes), 1000), bytes);
    bytes.push_back(static_cast<char>(i));
  }
}

}  // namespace
}  // namespace odmoe
