#include "server/cors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;

httplib::Request cross_request(const char* method, httplib::Headers headers) {
  httplib::Request result;
  result.method = method;
  result.path = "/v1/chat/completions";
  result.headers = std::move(headers);
  result.headers.emplace("Host", "localhost:8080");
  return result;
}

httplib::Response answer(const ServerOptions& options, const httplib::Request& asked) {
  httplib::Response response;
  add_cors(options, asked, response);
  return response;
}

const ServerOptions kNamed{.cors_origins = {"http://chat.example"}};
const ServerOptions kAny{.cors_origins = {"*"}};

httplib::Response preflight(const ServerOptions& options, const std::string& headers,
                            const std::string& method = "POST") {
  return answer(options, cross_request("OPTIONS", {{"Origin", "http://chat.example"},
                                                   {"Access-Control-Request-Method", method},
                                                   {"Access-Control-Request-Headers", headers},
                                                   {"Access-Control-Request-Private-Network", "true"}}));
}

TEST(Cors, APreflightIsAnsweredWithWhatItAskedFor) {
  const httplib::Response response = preflight(kNamed, "authorization,content-type, x-stainless-os");
  EXPECT_EQ(response.get_header_value("Access-Control-Allow-Origin"), "http://chat.example");
  EXPECT_EQ(response.get_header_value("Access-Control-Allow-Headers"),
            "authorization, content-type, x-stainless-os");
  EXPECT_EQ(response.get_header_value("Access-Control-Allow-Methods"), "GET, HEAD, POST, DELETE, OPTIONS");
  EXPECT_EQ(response.get_header_value("Access-Control-Max-Age"), "600");
  EXPECT_THAT(response.get_header_value("Vary"), HasSubstr("Access-Control-Request-Headers"));
  EXPECT_EQ(preflight(kNamed, "", "DELETE").get_header_value("Access-Control-Allow-Methods"),
            "GET, HEAD, POST, DELETE, OPTIONS");
  EXPECT_FALSE(preflight(kNamed, "").has_header("Access-Control-Allow-Headers"));
}

TEST(Cors, OnlyWordsAreEchoed) {
  EXPECT_EQ(
      preflight(kNamed, "a, b c, ,\"d\", e\x01, f/g, h").get_header_value("Access-Control-Allow-Headers"),
      "a, h");
  EXPECT_FALSE(preflight(kNamed, std::string(100'000, 'x')).has_header("Access-Control-Allow-Headers"));
  EXPECT_EQ(preflight(kNamed, "", "P OST").get_header_value("Access-Control-Allow-Methods"),
            "GET, HEAD, POST, DELETE, OPTIONS");
}

TEST(Cors, APrivateNetworkIsOpenToNamedOriginsAlone) {
  EXPECT_EQ(preflight(kNamed, "a").get_header_value("Access-Control-Allow-Private-Network"), "true");
  EXPECT_FALSE(preflight(kAny, "a").has_header("Access-Control-Allow-Private-Network"));
}

TEST(Cors, AnswersCanBeReadWhereTheOriginMayAsk) {
  const auto from = [](const char* origin) { return cross_request("POST", {{"Origin", origin}}); };
  EXPECT_EQ(answer(kNamed, from("http://chat.example")).get_header_value("Access-Control-Expose-Headers"),
            "Allow, Retry-After, WWW-Authenticate");
  EXPECT_EQ(answer(kAny, from("http://evil.example")).get_header_value("Access-Control-Allow-Origin"), "*");
  EXPECT_FALSE(answer(kNamed, from("http://evil.example")).has_header("Access-Control-Allow-Origin"));
  EXPECT_EQ(answer(kNamed, from("http://evil.example")).get_header_value("Vary"), "Origin");
  EXPECT_FALSE(answer({}, from("http://chat.example")).has_header("Vary"));
}

TEST(Cors, PagesOfThisServerAndNamedOnesMayAsk) {
  const auto may = [](const ServerOptions& options, const char* origin) {
    return may_ask(options, cross_request("POST", {{"Origin", origin}}));
  };
  EXPECT_TRUE(may_ask({}, cross_request("POST", {})));
  EXPECT_TRUE(may({}, "http://localhost:8080"));
  EXPECT_TRUE(may({}, "http://LOCALHOST:8080"));
  for (const char* bad : {"http://localhost", "http://localhost:3000", "http://evil.example", "null", "",
                          "http://localhost:8080@evil.example", "file://localhost:8080",
                          "http://localhost:8080.evil.example"}) {
    EXPECT_FALSE(may({}, bad)) << bad;
  }
  EXPECT_TRUE(may(kNamed, "http://chat.example"));
  EXPECT_TRUE(may(kNamed, "http://chat.example:80"));
  EXPECT_FALSE(may(kNamed, "https://chat.example"));
  EXPECT_TRUE(may({.cors_origins = {"null"}}, "null"));
}

TEST(Cors, WhatIsNoOriginIsSaidAtTheStart) {
  for (const char* good : {"*", "null", "http://localhost:3000", "app://obsidian.md", "https://[::1]:8443"}) {
    EXPECT_TRUE(check_cors_origin(good).has_value()) << good;
  }
  for (const char* bad : {"", "localhost:3000", "http://localhost:3000/", "http://a b", "http://*.example"}) {
    EXPECT_FALSE(check_cors_origin(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace odmoe::server
