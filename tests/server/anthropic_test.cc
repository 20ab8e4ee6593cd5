// Anthropic's API as its clients see it: over sockets, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::anthropic_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

class Anthropic : public ::testing::Test {
 protected:
  explicit Anthropic(const std::vector<std::string>& options = {"--context", "1024"})
      : server_(options), client_("127.0.0.1", server_.port()) {
    client_.set_read_timeout(60);
  }

  Json ask(Json body, int status = 200, const char* path = "/v1/messages",
           const httplib::Headers& headers = {}) {
    const auto answer = client_.Post(path, headers, body.dump(), "application/json");
    EXPECT_TRUE(answer) << httplib::to_string(answer.error());
    if (!answer) return {};
    EXPECT_EQ(answer->status, status) << answer->body;
    return Json::parse(answer->body);
  }
  // The data of its events.
  std::vector<Json> stream(Json body) {
    body["stream"] = true;
    const auto answer = client_.Post("/v1/messages", body.dump(), "application/json");
    EXPECT_TRUE(answer) << httplib::to_string(answer.error());
    EXPECT_EQ(answer->get_header_value("Content-Type"), "text/event-stream");
    std::vector<Json> events;
    std::istringstream lines(answer->body);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("data: ")) events.push_back(Json::parse(line.substr(6)));
    }
    return events;
  }
  static Json message(const std::string& text, int max_tokens = 12) {
    return {{"model", "claude"},
            {"max_tokens", max_tokens},
            {"temperature", 0},
            {"messages", Json::array({{{"role", "user"}, {"content", text}}})}};
  }
  static Json tool() {
    return {{"name", "get_weather"},
            {"description", "The weather."},
            {"input_schema",
             {{"type", "object"},
              {"properties", {{"city", {{"enum", {"Verona", "Venice"}}}}}},
              {"required", Json::array({"city"})},
              {"additionalProperties", false}}}};
  }

  ServerProcess server_;
  httplib::Client client_;
};

TEST_F(Anthropic, AStreamSaysWhatAWholeSays) {
  const Json whole = ask(message("Who are you?"));
  EXPECT_THAT(whole["id"].get<std::string>(), StartsWith("msg_"));
  EXPECT_EQ(whole["type"], "message");
  EXPECT_EQ(whole["role"], "assistant");
  EXPECT_EQ(whole["model"], "demo");
  EXPECT_EQ(whole["stop_reason"], "max_tokens");
  EXPECT_EQ(whole["usage"]["output_tokens"], 12);
  ASSERT_EQ(whole["content"].size(), 1);
  const auto events = stream(message("Who are you?"));
  ASSERT_GT(events.size(), 6);
  EXPECT_EQ(events[0]["type"], "message_start");
  EXPECT_EQ(events[0]["message"]["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
  EXPECT_EQ(events[1]["type"], "content_block_start");
  EXPECT_EQ(events[2]["type"], "ping");
  std::string text;
  for (const Json& event : events) {
    if (event["type"] == "content_block_delta") text += event["delta"]["text"].get<std::string>();
  }
  EXPECT_EQ(Json(text), whole["content"][0]["text"]);
  EXPECT_EQ(events[events.size() - 3]["type"], "content_block_stop");
  EXPECT_EQ(events[events.size() - 2]["delta"]["stop_reason"], "max_tokens");
  EXPECT_EQ(events[events.size() - 2]["usage"]["output_tokens"], 12);
  EXPECT_EQ(events.back()["type"], "message_stop");
}

TEST_F(Anthropic, AStringThatEndsAnAnswerIsNamed) {
  const std::string text = ask(message("Who are you?", 24))["content"][0]["text"];
  Json body = message("Who are you?", 24);
  body["stop_sequences"] = {"nothing of this", text.substr(4, 5)};
  const Json stopped = ask(body);
  EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
  EXPECT_EQ(stopped["stop_sequence"], Json(text.substr(4, 5)));
  const auto events = stream(body);
  EXPECT_EQ(events[events.size() - 2]["delta"]["stop_sequence"], Json(text.substr(4, 5)));
}

TEST_F(Anthropic, CallsComeAndResultsGoBack) {
  Json body = message("Weather in Verona?", 200);
  body["tools"] = Json::array({tool()});
  body["tool_choice"] = {{"type", "any"}, {"disable_parallel_tool_use", true}};
  const Json called = ask(body);
  EXPECT_EQ(called["stop_reason"], "tool_use");
  const Json use = called["content"].back();
  EXPECT_EQ(use["type"], "tool_use");
  EXPECT_EQ(use["name"], "get_weather");
  EXPECT_TRUE(use["input"]["city"] == "Verona" || use["input"]["city"] == "Venice");
  const auto events = stream(body);
  std::string input;
  for (const Json& event : events) {
    if (event["type"] == "content_block_delta") input += event["delta"]["partial_json"].get<std::string>();
  }
  EXPECT_EQ(Json::parse(input), use["input"]);

  body["messages"].push_back({{"role", "assistant"}, {"content", called["content"]}});
  body["messages"].push_back(
      {{"role", "user"},
       {"content",
        Json::array({{{"type", "tool_result"}, {"tool_use_id", use["id"]}, {"content", "Rain."}}})}});
  body["tool_choice"] = {{"type", "auto"}};
  body["max_tokens"] = 5;
  const Json after = ask(body);
  const auto read = [](const Json& answer) {  // what was there already is counted apart
    return answer["usage"]["input_tokens"].get<int>() + answer["usage"].value("cache_read_input_tokens", 0);
  };
  EXPECT_GT(read(after), read(called));
  EXPECT_EQ(after["stop_reason"], "max_tokens");
}

TEST_F(Anthropic, AnswersAreHeldToASchema) {
  Json body = message("A king?", 200);
  body["output_config"] = {{"format",
                            {{"type", "json_schema"},
                             {"schema",
                              {{"type", "object"},
                               {"properties", {{"kind", {{"enum", {"king", "queen"}}}}}},
                               {"required", Json::array({"kind"})},
                               {"additionalProperties", false}}}}}};
  const Json kind = Json::parse(ask(body)["content"][0]["text"].get<std::string>())["kind"];
  EXPECT_TRUE(kind == "king" || kind == "queen");
}

TEST_F(Anthropic, ALastMessageOfTheAssistantsIsContinued) {
  Json body = message("Who are you?", 8);
  body["messages"].push_back({{"role", "assistant"}, {"content", "I am the king of"}});
  const std::string went_on = ask(body)["content"][0]["text"];
  const auto openai = client_.Post(
      "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":"Who are you?"},{"role":"assistant","content":"I am the king of"}],
          "continue_final_message":true,"max_tokens":8,"temperature":0})",
      "application/json");
  EXPECT_EQ(Json::parse(openai->body)["choices"][0]["message"]["content"], Json(went_on));
}

TEST_F(Anthropic, TokensAreCountedAsTheyWouldBeRead) {
  Json body = message("Who are you?", 1);
  body["system"] = "Speak.";
  body["tools"] = Json::array({tool()});
  const Json counted = ask(body, 200, "/v1/messages/count_tokens");
  EXPECT_EQ(counted.dump(),
            odmoe::format(R"({{"input_tokens":{}}})", ask(body)["usage"]["input_tokens"].dump()));
  body.erase("max_tokens");
  EXPECT_EQ(ask(body, 200, "/messages/count_tokens"), counted);
  EXPECT_EQ(ask({{"messages", "x"}}, 400, "/v1/messages/count_tokens")["error"]["type"],
            "invalid_request_error");
}

TEST_F(Anthropic, WhatWasReadBeforeIsCountedApart) {
  std::string text;
  for (int i = 0; i < 600; ++i) text += "king ";
  const Json first = ask(message(text, 1));
  const Json second = ask(message(text, 1));
  const Json& usage = second["usage"];
  EXPECT_EQ(first["usage"]["cache_read_input_tokens"], 0);
  EXPECT_GT(usage["cache_read_input_tokens"].get<int>(), 0);
  EXPECT_EQ(usage["input_tokens"].get<int>() + usage["cache_read_input_tokens"].get<int>(),
            first["usage"]["input_tokens"].get<int>());
}

TEST_F(Anthropic, ErrorsHaveItsShape) {
  Json body = message("x");
  body["container"] = "c";
  const Json refused = ask(body, 400);
  EXPECT_EQ(refused["type"], "error");
  EXPECT_EQ(refused["error"]["type"], "invalid_request_error");
  EXPECT_THAT(refused["error"]["message"].get<std::string>(), HasSubstr("container"));
  EXPECT_THAT(ask(message(std::string(20'000, 'x')), 400)["error"]["message"].get<std::string>(),
              HasSubstr("context"));
  EXPECT_EQ(client_.Get("/v1/messages")->status, 405);
  EXPECT_EQ(Json::parse(client_.Get("/v1/messages")->body)["type"], "error");
  body = message("x");
  body["messages"][0]["content"] = Json::array(
      {{{"type", "image"}, {"source", {{"type", "base64"}, {"media_type", "image/png"}, {"data", "QUJD"}}}}});
  EXPECT_THAT(ask(body, 400)["error"]["message"].get<std::string>(), HasSubstr("--vision-url"));
}

class AnthropicWithKey : public Anthropic {
 protected:
  AnthropicWithKey() : Anthropic({"--context", "1024", "--api-key", "secret"}) {}
};

TEST_F(AnthropicWithKey, ItsKeysAreTakenAndItsVersionIsPassedOver) {
  EXPECT_EQ(ask(message("x", 1), 401)["error"]["type"], "authentication_error");
  for (const httplib::Headers& headers :
       {httplib::Headers{
            {"x-api-key", "secret"}, {"anthropic-version", "2023-06-01"}, {"anthropic-beta", "b"}},
        httplib::Headers{{"Authorization", "Bearer secret"}}}) {
    EXPECT_EQ(ask(message("x", 1), 200, "/v1/messages", headers)["type"], "message");
  }
}

class AnthropicInAHurry : public Anthropic {
 protected:
  AnthropicInAHurry() : Anthropic({"--context", "32768", "--timeout", "1"}) {}
};

TEST_F(AnthropicInAHurry, AFailureInTheMiddleIsTheLastEventOfAStream) {
  Json body = message("Speak.", 30'000);
  body["ignore_eos"] = true;
  const auto events = stream(body);
  ASSERT_GT(events.size(), 3);
  EXPECT_EQ(events.back()["type"], "error");
  EXPECT_EQ(events.back()["error"]["type"], "timeout_error");
}

}  // namespace
}  // namespace odmoe::testing::anthropic_test
