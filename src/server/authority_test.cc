#include "server/authority.h"

#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

TEST(Authority, IsANameOrAnAddressAndAPort) {
  EXPECT_EQ(parse_authority("LocalHost:8080"), (Authority{.host = "localhost", .port = 8080}));
  EXPECT_EQ(parse_authority("localhost."), (Authority{.host = "localhost", .port = std::nullopt}));
  EXPECT_EQ(parse_authority("localhost:"), (Authority{.host = "localhost", .port = std::nullopt}));
  EXPECT_EQ(parse_authority("[::1]:80"), (Authority{.host = "[::1]", .port = 80}));
  EXPECT_EQ(parse_authority("my_mac-2.local"), (Authority{.host = "my_mac-2.local", .port = std::nullopt}));
}

TEST(Authority, SpellingsOfAnAddressAreOne) {
  EXPECT_EQ(parse_authority("[0:0:0:0:0:0:0:1]"), parse_authority("[::1]"));
  EXPECT_EQ(parse_authority("[FE80::0001]"), parse_authority("[fe80:0::1]"));
}

TEST(Authority, WhatIsMoreThanThatIsNone) {
  for (const char* bad : {"",
                          ":",
                          ":80",
                          ".",
                          "..",
                          ".localhost",
                          "a..b",
                          "localhost..",
                          "[::1].evil.com",
                          "[::1]evil.com",
                          "[::1",
                          "::1",
                          "[]",
                          "[::g]",
                          "[::1%25eth0]",
                          "[127.0.0.1]",
                          "127.0.0.1:80@evil.com",
                          "user@localhost",
                          "localhost:80:90",
                          "localhost:http",
                          "localhost:-1",
                          "localhost:+80",
                          "localhost:65536",
                          "localhost:080808",
                          "localhost: 80",
                          "local host",
                          "localhost/",
                          "localhost,evil.com",
                          "localhost%2eevil.com",
                          "localhost\t",
                          "http://localhost",
                          "localhost?",
                          "localhost#",
                          "localhost\\",
                          "localh\xC3\xB6st",
                          "*",
                          "[::1]x:80"}) {
    EXPECT_FALSE(parse_authority(bad)) << bad;
  }
  EXPECT_FALSE(parse_authority(std::string_view("localhost\0evil", 14)));
}

TEST(Authority, OriginsHaveTheirSchemesPort) {
  EXPECT_EQ(parse_origin("http://Localhost"), parse_origin("HTTP://localhost:80"));
  EXPECT_EQ(parse_origin("https://a.example"), parse_origin("https://a.example:443"));
  EXPECT_NE(parse_origin("http://a.example"), parse_origin("https://a.example"));
  EXPECT_TRUE(parse_origin("chrome-extension://abcdefgh"));
  for (const char* bad :
       {"", "null", "localhost", "://localhost", "http://", "http://a/", "http://a@b", "1://a"}) {
    EXPECT_FALSE(parse_origin(bad)) << bad;
  }
}

TEST(Authority, NamesOfTheMachineItselfAreKnown) {
  for (const char* good : {"localhost", "LOCALHOST", "localhost.", "x.localhost", "a.b.localhost.",
                           "127.0.0.1", "127.1", "127.255.3.4", "127.0.0.1.", "::1", "[::1]",
                           "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"}) {
    EXPECT_TRUE(is_loopback_name(good)) << good;
  }
  for (const char* bad :
       {"", "localhost.evil.example", "xlocalhost", ".localhost", "127.0.0.1.evil.example", "127.0.0.256",
        "127", "127.", "127.0.0.1.1", "127.0.0.1x", "127..1", "128.0.0.1", "0.0.0.0", "10.0.0.1", "[::]",
        "[::2]", "[::ffff:10.0.0.1]", "[::1].evil.example", "evil.example"}) {
    EXPECT_FALSE(is_loopback_name(bad)) << bad;
  }
}

}  // namespace
}  // namespace odmoe::server
