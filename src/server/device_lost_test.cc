// What clients are told when the device that computes the dense part fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/engine_impl.h"
#include "server/server.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;
using DeviceJson = nlohmann::json;

class DeviceLost : public ::testing::Test {
 protected:
  void SetUp() override {
    const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                .memory = parse_memory_budget("50%").value(),
                                .context = 1024,
                                .threads = 1,
                                .chunk = 64,
                                .sessions = 2};
    EngineDependencies dependencies{.memory_of_its_own = true};
    dependencies.device_fault = [this]() -> Status {
      if (!failing_) return {};
      return fail(ErrorKind::kIo, "vk::Queue::submit: ErrorDeviceLost");
    };
    engine_ = EngineImpl::open(options, {}, dependencies).value();
    server_ = Server::listen({.port = 0, .model_id = "demo"}).value();
    ASSERT_TRUE(server_->serve(*engine_, options).has_value());
    client_ = std::make_unique<httplib::Client>("127.0.0.1", server_->port());
    client_->set_read_timeout(60);
  }
  httplib::Result ask(const char* more = "") {
    return client_->Post("/v1/completions",
                         std::string(R"({"prompt":"KING","max_tokens":4,"ignore_eos":true)") + more + "}",
                         "application/json");
  }

  std::atomic<bool> failing_ = false;
  std::unique_ptr<EngineImpl> engine_;  // outlives the server
  std::unique_ptr<Server> server_;
  std::unique_ptr<httplib::Client> client_;
};

TEST_F(DeviceLost, EveryRequestGets503UntilTheServerIsStartedAgain) {
  EXPECT_EQ(ask()->status, 200);
  EXPECT_EQ(client_->Get("/health")->status, 200);
  failing_ = true;
  for (const bool failing_now : {true, false}) {  // a device that has failed once is asked no more
    failing_ = failing_now;
    const auto answer = ask();
    EXPECT_EQ(answer->status, 503) << answer->body;
    EXPECT_EQ(answer->get_header_value("Retry-After"), "10");
    const DeviceJson error = DeviceJson::parse(answer->body)["error"];
    EXPECT_EQ(error["code"], "device_lost");
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("the device CPU failed: vk::Queue::submit"));
    EXPECT_THAT(ask(R"(,"stream":true)")->body, HasSubstr("device_lost"));
    const auto health = client_->Get("/health");
    EXPECT_EQ(health->status, 503);
    const DeviceJson said = DeviceJson::parse(health->body);
    EXPECT_EQ(said["status"], "device_lost");
    EXPECT_EQ(said["model_loaded"], true);
    EXPECT_EQ(said["error"], error["message"]);
  }
}

}  // namespace
}  // namespace odmoe::server
