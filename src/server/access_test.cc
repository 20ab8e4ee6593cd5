#include "server/access.h"

#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

httplib::Request request(const std::string& method, const std::string& path, httplib::Headers headers = {}) {
  httplib::Request result;
  result.method = method;
  result.path = path;
  result.headers = std::move(headers);
  return result;
}

int status(const ServerOptions& options, const httplib::Request& asked) {
  const auto error = check_access(options, asked);
  return error ? error->status : 200;
}

TEST(Access, KeysAreAskedForEverywhereButForTheHealthAndThePage) {
  const ServerOptions options{.api_keys = {"alpha", "beta"}};
  EXPECT_EQ(status(options, request("GET", "/v1/models")), 401);
  EXPECT_EQ(status(options, request("GET", "/metrics")), 401);
  EXPECT_EQ(status(options, request("GET", "/v1/events")), 401);
  EXPECT_EQ(status(options, request("GET", "/health")), 200);
  EXPECT_EQ(status(options, request("GET", "/")), 200);  // the page, which asks for the key
  for (const char* good : {"Bearer alpha", "bearer beta"}) {
    EXPECT_EQ(status(options, request("GET", "/v1/models", {{"Authorization", good}})), 200) << good;
  }
  for (const char* bad : {"Bearer alph", "Bearer alphaa", "Bearer ", "alpha", "Basic alpha"}) {
    EXPECT_EQ(status(options, request("GET", "/v1/models", {{"Authorization", bad}})), 401) << bad;
  }
  EXPECT_EQ(status(options, request("GET", "/v1/models", {{"x-api-key", "beta"}})), 200);
}

TEST(Access, ComparesInConstantTimeAndRightly) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abd", "abc"));
  EXPECT_FALSE(equal_in_constant_time("ab", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abcd", "abc"));
  EXPECT_FALSE(equal_in_constant_time("", "abc"));
}

TEST(Access, OnLoopbackOnlyNamesOfTheMachineItselfAreAnswered) {
  const ServerOptions options;
  for (const char* good : {"localhost:8080", "127.0.0.1:8080", "LOCALHOST", "[::1]:8080", "127.1.2.3"}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", good}})), 200) << good;
  }
  for (const char* bad :
       {"evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "10.0.0.1"}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", bad}})), 403) << bad;
  }
  EXPECT_EQ(status({.host = "0.0.0.0"}, request("GET", "/health", {{"Host", "mac.local:8080"}})), 200);
}

TEST(Access, PagesOfOtherOriginsAreRefusedUnlessNamed) {
  const auto from = [](const char* origin) {
    return request("POST", "/v1/completions", {{"Host", "localhost:8080"}, {"Origin", origin}});
  };
  EXPECT_EQ(status({}, from("http://evil.example")), 403);
  EXPECT_EQ(status({}, from("null")), 403);
  EXPECT_EQ(status({}, from("http://localhost:8080")), 200);  // its own page
  const ServerOptions named{.cors_origins = {"http://chat.example"}};
  EXPECT_EQ(status(named, from("http://chat.example")), 200);
  EXPECT_EQ(status(named, from("http://evil.example")), 403);
  httplib::Response response;
  add_cors(named, from("http://chat.example"), response);
  EXPECT_EQ(response.get_header_value("Access-Control-Allow-Origin"), "http://chat.example");
  httplib::Response none;
  add_cors({}, from("http://chat.example"), none);
  EXPECT_FALSE(none.has_header("Access-Control-Allow-Origin"));
}

TEST(Access, PathsAndMethodsThatAreNotThereAreToldSo) {
  EXPECT_EQ(status({}, request("GET", "/v1/nothing")), 404);
  EXPECT_EQ(status({}, request("GET", "/../etc/passwd")), 404);
  EXPECT_EQ(status({}, request("GET", "/v1/completions")), 405);
  EXPECT_EQ(status({}, request("DELETE", "/health")), 405);
  EXPECT_EQ(status({}, request("HEAD", "/health")), 200);
  EXPECT_EQ(status({}, request("POST", "/tokenize", {{"Content-Encoding", "gzip"}})), 415);
}

}  // namespace
}  // namespace odmoe::server
