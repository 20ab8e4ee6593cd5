#include "server/vision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <thread>

#include "server/json_guard.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A server as a second machine would run it.
class VisionServer {
 public:
  VisionServer() {
    server_.Post(
        "/v1/chat/completions", [this](const httplib::Request& request, httplib::Response& response) {
          const int now = ++running_;
          for (int seen = most_; now > seen && !most_.compare_exchange_weak(seen, now);) {
          }
          if (delay_ms_ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms_));
          ++asked_;
          authorization_ = request.get_header_value("Authorization");
          const Json body = Json::parse(request.body);
          const std::string url = body["messages"][0]["content"][1]["image_url"]["url"];
          response.status = status_;
          response.set_content(
              Json{{"choices",
                    {{{"message", {{"role", "assistant"}, {"content", "a picture of " + url.substr(22)}}}}}}}
                  .dump(),
              "application/json");
          --running_;
        });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    server_.wait_until_ready();
  }
  ~VisionServer() { stop(); }
  void stop() {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }
  std::string url() const { return odmoe::format("http://127.0.0.1:{}", port_); }

  std::atomic<int> asked_ = 0, running_ = 0, most_ = 0, delay_ms_ = 0, status_ = 200;
  std::string authorization_;

 private:
  httplib::Server server_;
  std::thread thread_;
  int port_ = 0;
};

const auto kHere = [] { return false; };
const std::string kA = "data:image/png;base64,AAAA", kB = "data:image/png;base64,BBBB";

TEST(Vision, DescribesImagesInOrderSeveralAtOnce) {
  VisionServer server;
  server.delay_ms_ = 50;
  Vision vision({.url = server.url(), .api_key = "k", .parallel = 2});
  const std::string c = "data:image/png;base64,CCCC";
  const auto texts = vision.describe({kA, kB, c}, kHere);
  ASSERT_TRUE(texts.has_value()) << texts.error().message;
  EXPECT_THAT(*texts, ElementsAre("a picture of AAAA", "a picture of BBBB", "a picture of CCCC"));
  EXPECT_EQ(server.most_, 2);
  EXPECT_EQ(server.authorization_, "Bearer k");
}

TEST(Vision, RemembersForWhoAskedAlone) {
  VisionServer server;
  Vision vision({.url = server.url()});
  for (const char* owner : {"anna", "bert", "anna", "bert", ""}) {
    ASSERT_TRUE(vision.describe({kA}, kHere, owner).has_value());
  }
  EXPECT_EQ(server.asked_, 3) << "once for each of them";
}

TEST(Vision, RemembersWhatWasDescribedByItsBytes) {
  VisionServer server;
  Vision vision({.url = server.url() + "/v1/"});
  ASSERT_TRUE(vision.describe({kA}, kHere).has_value());
  ASSERT_TRUE(vision.describe({kA, "data:image/jpeg;base64,AAAA"}, kHere).has_value());
  EXPECT_EQ(server.asked_, 1);
  EXPECT_EQ(vision.counters().cached, 2);
}

TEST(Vision, ForgetsTheOldestBeyondItsBound) {
  VisionServer server;
  Vision vision({.url = server.url(), .cache_bytes = 20});
  for (const std::string& image : {kA, kB, kA}) ASSERT_TRUE(vision.describe({image}, kHere).has_value());
  EXPECT_EQ(server.asked_, 3);
}

TEST(Vision, WithoutAServerAnImageIsRefusedWithAdvice) {
  Vision vision({});
  const auto texts = vision.describe({kA}, kHere);
  ASSERT_FALSE(texts.has_value());
  EXPECT_EQ(texts.error().status, 400);
  EXPECT_THAT(texts.error().message, HasSubstr("--vision-url"));
}

TEST(Vision, WhatIsNoImageOrTooLargeIsRefused) {
  VisionServer server;
  Vision vision({.url = server.url(), .max_image_bytes = 8});
  const auto message = [&](const char* url) {
    const auto texts = vision.describe({kA, url}, kHere);
    return texts.has_value() ? std::string("fine") : texts.error().message;
  };
  EXPECT_THAT(message("http://example.org/a.png"),
              HasSubstr("image 2: addresses of images are not followed"));
  EXPECT_THAT(message("file:///etc/passwd"), HasSubstr("data:image/png;base64"));
  EXPECT_THAT(message("data:text/plain;base64,AAAA"), HasSubstr("data:image/png;base64"));
  EXPECT_THAT(message("data:image/png;base64,A*AA"), HasSubstr("damaged"));
  EXPECT_THAT(message("data:image/png;base64,AAAAAAAAAAAAAAAAAAAA"), HasSubstr("larger than 8"));
  EXPECT_EQ(server.asked_, 0);
}

TEST(Vision, AServerThatFailsIsNamed) {
  VisionServer server;
  Vision vision({.url = server.url()});
  server.status_ = 500;
  EXPECT_EQ(vision.describe({kA}, kHere).error().status, 502);
  server.stop();
  const auto down = vision.describe({kA}, kHere);
  ASSERT_FALSE(down.has_value());
  EXPECT_EQ(down.error().status, 502);
  EXPECT_THAT(down.error().message, HasSubstr("cannot be reached"));
  EXPECT_EQ(down.error().code, "vision_failed");
}

TEST(Vision, AServerThatTakesTooLongIsGivenUp) {
  VisionServer server;
  server.delay_ms_ = 1500;
  Vision vision({.url = server.url(), .timeout = std::chrono::milliseconds(150)});
  const auto texts = vision.describe({kA}, kHere);
  ASSERT_FALSE(texts.has_value());
  EXPECT_EQ(texts.error().status, 504);
}

}  // namespace
}  // namespace odmoe::server
