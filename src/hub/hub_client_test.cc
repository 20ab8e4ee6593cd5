#include "hub/hub_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "hub/testing_http.h"

namespace odmoe::hub::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kCommitHash(40, 'a');
const std::string kFileHash(64, 'b');

class HubClientTest : public ::testing::Test {
 protected:
  Result<Listing> list(const FakeHttp::Server& server) {
    FakeHttp http(server);
    auto listing = HubClient(options_, http, watcher_).list(*parse_repo_name("o/r@refs/pr/1"));
    requests_ = http.requests;
    return listing;
  }
  Result<Location> locate(const FakeHttp::Server& server) {
    FakeHttp http(server);
    auto location =
        HubClient(options_, http, watcher_).locate(*parse_repo_name("o/r"), kCommitHash, "a b.gguf");
    requests_ = http.requests;
    return location;
  }
  std::string refusal(int status, const std::string& code = "") {
    const auto listing = list([&](const HttpRequest&) {
      return FakeAnswer{.status = status, .fields = {{"x-error-code", code}}, .body = "{}"};
    });
    EXPECT_FALSE(listing.has_value());
    return listing.error().message;
  }

  HubOptions options_{.endpoint = "https://hub", .token = "secret"};
  FakeWatcher watcher_;
  std::vector<HttpRequest> requests_;
};

const std::string kEmptyListing = R"({"sha": ")" + kCommitHash + R"(", "siblings": []})";

TEST_F(HubClientTest, AsksForTheListingOfARevision) {
  const auto listing = list([](const HttpRequest&) { return FakeAnswer{.body = kEmptyListing}; });
  ASSERT_TRUE(listing.has_value()) << listing.error().message;
  EXPECT_EQ(requests_[0].url, "https://hub/api/models/o/r/revision/refs%2Fpr%2F1?blobs=true");
  EXPECT_EQ(requests_[0].token, "secret");
}

TEST_F(HubClientTest, FollowsARenamedRepository) {
  const auto listing = list([](const HttpRequest& request) {
    if (request.url.contains("/o/r/"))
      return FakeAnswer{.status = 307, .fields = {{"location", "/api/models/n/r/x"}}};
    return FakeAnswer{.body = kEmptyListing};
  });
  EXPECT_TRUE(listing.has_value());
  EXPECT_EQ(requests_[1].url, "https://hub/api/models/n/r/x");
  EXPECT_EQ(requests_[1].token, "secret");
}

TEST_F(HubClientTest, LocatesAFileAtACdnWithoutTheToken) {
  const auto location = locate([](const HttpRequest& request) {
    EXPECT_TRUE(request.head);
    EXPECT_EQ(request.url, "https://hub/o/r/resolve/" + kCommitHash + "/a%20b.gguf");
    return FakeAnswer{.status = 302,
                      .fields = {{"location", "https://cdn/x?sig=1"},
                                 {"x-linked-etag", "\"" + kFileHash + "\""},
                                 {"x-linked-size", "123"},
                                 {"x-repo-commit", kCommitHash}}};
  });
  ASSERT_TRUE(location.has_value()) << location.error().message;
  EXPECT_EQ(location->url, "https://cdn/x?sig=1");
  EXPECT_EQ(location->token, "");
  EXPECT_EQ(location->bytes, 123);
  EXPECT_EQ(location->content_id, kFileHash);
}

TEST_F(HubClientTest, LocatesASmallFileAtTheHubWithTheToken) {
  const auto location = locate([](const HttpRequest&) {
    return FakeAnswer{.fields = {{"etag", "W/\"" + kCommitHash + "\""}, {"content-length", "5"}}};
  });
  ASSERT_TRUE(location.has_value()) << location.error().message;
  EXPECT_EQ(location->token, "secret");
  EXPECT_EQ(location->bytes, 5);
  EXPECT_EQ(location->content_id, kCommitHash);
}

TEST_F(HubClientTest, AnotherCommitOrNoSizeIsRefused) {
  EXPECT_THAT(locate([](const HttpRequest&) {
                return FakeAnswer{.fields = {{"x-repo-commit", "b"}, {"content-length", "5"}}};
              })
                  .error()
                  .message,
              HasSubstr("of commit b instead of"));
  EXPECT_THAT(locate([](const HttpRequest&) { return FakeAnswer{}; }).error().message,
              HasSubstr("does not tell how large"));
}

TEST_F(HubClientTest, ARefusalSaysWhatToDo) {
  EXPECT_EQ(
      refusal(403, "GatedRepo"),
      "o/r is gated, and your token's account may not read it yet: accept its licence at https://hub/o/r");
  EXPECT_EQ(refusal(404, "RevisionNotFound"), "o/r has no revision refs/pr/1");
  EXPECT_THAT(refusal(401), HasSubstr("hub does not give o/r to your token (401)"));
  EXPECT_THAT(refusal(404), HasSubstr("hub has no repository o/r"));
  EXPECT_THAT(refusal(418), HasSubstr("with status 418"));
  options_.token.clear();
  EXPECT_EQ(
      refusal(401, "GatedRepo"),
      "o/r is gated: accept its licence at https://hub/o/r and set HF_TOKEN to a token of your account");
  EXPECT_THAT(
      refusal(401),
      HasSubstr("or not for everybody (401): check the name; for a private or gated one set HF_TOKEN"));
}

TEST_F(HubClientTest, WaitsAsLongAsTheHubAsksWithinBounds) {
  int n = 0;
  const auto listing = list([&](const HttpRequest&) {
    return ++n < 3 ? FakeAnswer{.status = 429, .end = {.retry_after = std::chrono::seconds(n * 10)}}
                   : FakeAnswer{.body = kEmptyListing};
  });
  EXPECT_TRUE(listing.has_value());
  EXPECT_THAT(watcher_.waits, ElementsAre("10000 ms: hub: too many requests (429): it asks to wait 10 s",
                                          "20000 ms: hub: too many requests (429): it asks to wait 20 s"));
  const auto never = list([&](const HttpRequest&) {
    return FakeAnswer{.status = 429, .end = {.retry_after = std::chrono::seconds(3600)}};
  });
  EXPECT_EQ(never.error().message, "hub: too many requests (429): it asks to wait 3600 s; try again later");
}

TEST_F(HubClientTest, ErrorsThatMayPassAreTriedAgainAndEnd) {
  EXPECT_THAT(list([](const HttpRequest&) { return FakeAnswer{.status = 502}; }).error().message,
              HasSubstr("hub: status 502; try again later"));
  EXPECT_EQ(watcher_.waits.size(), 7);
}

TEST_F(HubClientTest, AHostThatIsNotThereIsSaidAtOnce) {
  EXPECT_EQ(list([](const HttpRequest&) {
              return FakeAnswer{
                  .status = 0, .end = {.kind = HttpEnd::Kind::kUnreachable, .why = "Could not resolve host"}};
            })
                .error()
                .message,
            "hub cannot be reached: Could not resolve host");
  EXPECT_THAT(watcher_.waits, ElementsAre());
}

TEST_F(HubClientTest, CirclesAndOtherHostsInTheListingAreRefused) {
  EXPECT_THAT(
      list([](const HttpRequest&) { return FakeAnswer{.status = 302, .fields = {{"location", "/again"}}}; })
          .error()
          .message,
      HasSubstr("sends in circles"));
  EXPECT_THAT(list([](const HttpRequest&) {
                return FakeAnswer{.status = 302, .fields = {{"location", "https://elsewhere/"}}};
              })
                  .error()
                  .message,
              HasSubstr("check HF_ENDPOINT"));
}

TEST_F(HubClientTest, AnInterruptEndsTheRequest) {
  watcher_.stops_after = 3;
  FakeAnswer slow{.body = std::string(100'000, ' ')};
  EXPECT_EQ(list([&](const HttpRequest&) { return slow; }).error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace odmoe::hub::testing
