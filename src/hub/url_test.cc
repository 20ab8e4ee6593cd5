#include "hub/url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::hub {
namespace {

using ::testing::HasSubstr;

TEST(Url, TheOriginIsSchemeHostAndPort) {
  EXPECT_EQ(origin_of("https://HuggingFace.co/a?b").value_or(""), "https://huggingface.co:443");
  EXPECT_EQ(origin_of("http://127.0.0.1:80/").value_or(""), "http://127.0.0.1:80");
  EXPECT_EQ(origin_of("https://user@h:444").value_or(""), "https://h:444");
  for (const char* text :
       {"", "huggingface.co", "file:///etc/passwd", "ftp://h/", "https://", "https://a b/"}) {
    EXPECT_FALSE(origin_of(text).has_value()) << text;
  }
}

TEST(Url, ALocationIsReadFromWhereItWasSent) {
  EXPECT_EQ(join_url("https://h/a/b?c", "/d/e").value_or(""), "https://h/d/e");
  EXPECT_EQ(join_url("https://h/a/b", "c").value_or(""), "https://h/a/c");
  EXPECT_EQ(join_url("https://h/a", "https://cdn/x?sig=1").value_or(""), "https://cdn/x?sig=1");
  EXPECT_EQ(join_url("http://h/a", "https://cdn/x").value_or(""), "https://cdn/x");
}

TEST(Url, NobodyIsSentToWhereNothingIsEncrypted) {
  EXPECT_THAT(join_url("https://h/a", "http://cdn/x").error().message, HasSubstr("without encryption"));
  EXPECT_FALSE(join_url("https://h/a", "file:///etc/passwd").has_value());
  EXPECT_FALSE(join_url("https://h/a", "").value_or("x").empty());
}

TEST(Url, PathsAreEscaped) {
  EXPECT_EQ(escaped_path("a b/c?d#e%.gguf"), "a%20b/c%3Fd%23e%25.gguf");
  EXPECT_EQ(escaped_path("refs/pr/1", false), "refs%2Fpr%2F1");
  EXPECT_EQ(escaped_path("Zürich~"), "Z%C3%BCrich~");
}

}  // namespace
}  // namespace odmoe::hub
