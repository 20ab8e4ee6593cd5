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

const RouteTable& routes() {
  static const RouteTable table(all_dialects());
  return table;
}

int status(const ServerOptions& options, const httplib::Request& asked) {
  const auto error = check_access(options, routes(), asked);
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

TEST(Access, AKeyOwnsItsPromptsHoweverItIsSentAndCannotBeReadFromTheirOwner) {
  ServerOptions options{.api_keys = {"alpha", "beta"}};
  const auto owner = [&](const char* header, const char* value) {
    return owner_of(options, request("POST", "/v1/completions", {{header, value}}));
  };
  const std::string alpha = owner("Authorization", "Bearer alpha");
  EXPECT_EQ(alpha.size(), 64U);
  EXPECT_FALSE(alpha.contains("alpha"));
  EXPECT_EQ(owner("Authorization", "bearer alpha"), alpha);
  EXPECT_EQ(owner("x-api-key", "alpha"), alpha);
  EXPECT_NE(owner("x-api-key", "beta"), alpha);
  // The one of the two that access is granted for.
  EXPECT_EQ(owner_of(options, request("POST", "/v1/completions",
                                      {{"x-api-key", "beta"}, {"Authorization", "Bearer alpha"}})),
            alpha);
  options.share_prompts = true;
  EXPECT_EQ(owner("x-api-key", "alpha"), "");
  EXPECT_EQ(owner_of({}, request("POST", "/v1/completions", {{"x-api-key", "alpha"}})), "");
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
  for (const char* good : {"localhost:8080", "127.0.0.1:8080", "LOCALHOST", "[::1]:8080", "127.1.2.3",
                           "localhost.", "x.localhost:8080", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]:1"}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", good}})), 200) << good;
  }
  for (const char* bad :
       {"evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "10.0.0.1"}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", bad}})), 403) << bad;
  }
  for (const char* none : {"[::1].evil.com", "127.0.0.1:80@evil.com", "localhost:80:90", ""}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", none}})), 400) << none;
  }
  EXPECT_EQ(status({.host = "0.0.0.0"}, request("GET", "/health", {{"Host", "mac.local:8080"}})), 200);
}

TEST(Access, NamesThatTheUserAllowsAreAnsweredToo) {
  const ServerOptions options{.allowed_hosts = {"Host.Docker.Internal", "mac.local:8080", "plain.local:80"}};
  for (const char* good : {"host.docker.internal", "host.docker.internal:8080", "HOST.docker.internal.",
                           "mac.local:8080", "plain.local", "plain.local:80", "localhost"}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", good}})), 200) << good;
  }
  for (const char* bad :
       {"mac.local", "mac.local:8081", "x.host.docker.internal", "docker.internal", "evil.example"}) {
    EXPECT_EQ(status(options, request("GET", "/health", {{"Host", bad}})), 403) << bad;
  }
  // A page that was reached by such a name asks with it.
  EXPECT_EQ(status(options, request("POST", "/tokenize",
                                    {{"Host", "mac.local:8080"}, {"Origin", "http://mac.local:8080"}})),
            200);
  EXPECT_EQ(status(options, request("POST", "/tokenize",
                                    {{"Host", "mac.local:8080"}, {"Origin", "http://evil.example"}})),
            403);
}

TEST(Access, NamesThatAreNoneAreSaidAtTheStart) {
  for (const char* good : {"a", "host.docker.internal", "mac.local:8080", "[fe80::1]:80"}) {
    EXPECT_TRUE(check_allowed_host(good).has_value()) << good;
  }
  for (const char* bad : {"", "http://a", "a/", "*", "a:b", "a b", ".example"}) {
    EXPECT_FALSE(check_allowed_host(bad).has_value()) << bad;
  }
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
}

TEST(Access, PathsAndMethodsThatAreNotThereAreToldSo) {
  EXPECT_EQ(status({}, request("GET", "/v1/nothing")), 404);
  EXPECT_EQ(status({}, request("GET", "/../etc/passwd")), 404);
  EXPECT_EQ(status({}, request("GET", "/v1/completions")), 405);
  EXPECT_EQ(status({}, request("DELETE", "/health")), 405);
  EXPECT_EQ(status({.api_keys = {"alpha"}}, request("GET", "/v1/nothing")), 401);
  EXPECT_EQ(status({}, request("HEAD", "/health")), 200);
  EXPECT_EQ(status({}, request("POST", "/tokenize", {{"Content-Encoding", "gzip"}})), 415);
}

TEST(Access, ABodyMayCallItselfWhatItLikesUnlessItIsInParts) {
  for (const char* type :
       {"application/x-www-form-urlencoded", "text/plain", "application/octet-stream", "x"}) {
    EXPECT_EQ(status({}, request("POST", "/tokenize", {{"Content-Type", type}})), 200) << type;
  }
  const auto error = check_access(
      {}, routes(), request("POST", "/tokenize", {{"Content-Type", "Multipart/form-data; boundary=x"}}));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->status, 415);
  EXPECT_NE(error->message.find("Multipart/form-data"), std::string::npos);
}

TEST(Access, ABrowserThatAsksWhatItMaySendNeedsNoKey) {
  const ServerOptions options{.api_keys = {"alpha"}, .cors_origins = {"http://chat.example"}};
  const auto preflight = [&](const char* path, const char* origin) {
    return status(options,
                  request("OPTIONS", path, {{"Origin", origin}, {"Access-Control-Request-Method", "POST"}}));
  };
  EXPECT_EQ(preflight("/v1/completions", "http://chat.example"), 200);
  EXPECT_EQ(preflight("/v1/nothing", "http://chat.example"),
            200);  // the page is to read the 404 that follows
  EXPECT_EQ(preflight("/v1/completions", "http://evil.example"), 403);
  EXPECT_EQ(status({}, request("OPTIONS", "/v1/nothing")), 404);
  EXPECT_EQ(status({}, request("OPTIONS", "*")), 200);
}

}  // namespace
}  // namespace odmoe::server
