#include "server/anthropic_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "odmoe/format.h"
#include "server/anthropic_dialect.h"
#include "server/json_guard.h"
#include "server/testing_writer.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::ElementsAre;

const AnswerStart kMessageStart{.id = "1f", .model = "demo", .prompt_tokens = 12};
const AnswerUsage kMessageUsage{.prompt = 12, .generated = 7, .reused = 4};

std::unique_ptr<AnswerWriter> message_writer(bool shows_thoughts = true) {
  return anthropic_writer(kMessageStart, {.shows_thoughts = shows_thoughts});
}

// The data of the events, each of which has the name that its data says.
std::vector<Json> message_events(const std::string& stream) {
  std::vector<Json> events;
  std::istringstream lines(stream);
  std::string event, data, empty;
  while (std::getline(lines, event) && std::getline(lines, data) && std::getline(lines, empty)) {
    EXPECT_TRUE(data.starts_with("data: ")) << data;
    EXPECT_EQ(empty, "");
    events.push_back(Json::parse(data.substr(6)));
    EXPECT_EQ(event, "event: " + events.back()["type"].get<std::string>());
  }
  EXPECT_TRUE(stream.ends_with("\n\n"));
  return events;
}

// One word for each event.
std::vector<std::string> message_outline(const std::string& stream) {
  std::vector<std::string> words;
  for (const Json& event : message_events(stream)) {
    const std::string type = event["type"];
    if (type == "content_block_start") {
      words.push_back(
          odmoe::format("start {} {}", event["index"].dump(), event["content_block"]["type"].dump()));
    } else if (type == "content_block_delta") {
      words.push_back(odmoe::format("delta {} {}", event["index"].dump(), event["delta"]["type"].dump()));
    } else if (type == "content_block_stop") {
      words.push_back("stop " + event["index"].dump());
    } else {
      words.push_back(type);
    }
  }
  return words;
}

ChatToolCall message_call(const std::string& arguments = R"({"city":"Rome"})") {
  return {.id = "call_1", .name = "get_weather", .arguments = arguments};
}

TEST(AnthropicAnswer, AStreamOpensAndClosesOneBlockAfterTheOther) {
  const std::string text =
      streamed(*message_writer(),
               {{.reasoning = "h"},
                {.reasoning = "m", .content = "I"},
                {.content = " look"},
                {.calls = {message_call(), message_call("")}, .finish = AnswerFinish::kCalls}},
               kMessageUsage);
  EXPECT_THAT(
      message_outline(text),
      ElementsAre("message_start", R"(start 0 "thinking")", "ping", R"(delta 0 "thinking_delta")",
                  R"(delta 0 "thinking_delta")", R"(delta 0 "signature_delta")", "stop 0",
                  R"(start 1 "text")", R"(delta 1 "text_delta")", R"(delta 1 "text_delta")", "stop 1",
                  R"(start 2 "tool_use")", R"(delta 2 "input_json_delta")", "stop 2", R"(start 3 "tool_use")",
                  R"(delta 3 "input_json_delta")", "stop 3", "message_delta", "message_stop"));
  const auto events = message_events(text);
  EXPECT_EQ(
      events[0].dump(),
      R"({"type":"message_start","message":{"id":"msg_1f","type":"message","role":"assistant","model":"demo",)"
      R"("content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,)"
      R"("cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}})");
  EXPECT_EQ(events[1]["content_block"].dump(), R"({"type":"thinking","thinking":"","signature":""})");
  EXPECT_EQ(events[3]["delta"].dump(), R"({"type":"thinking_delta","thinking":"h"})");
  EXPECT_NE(events[5]["delta"]["signature"], "");
  EXPECT_EQ(events[7]["content_block"].dump(), R"({"type":"text","text":""})");
  EXPECT_EQ(events[9]["delta"].dump(), R"({"type":"text_delta","text":" look"})");
  EXPECT_EQ(events[11]["content_block"].dump(),
            R"({"type":"tool_use","id":"call_1","name":"get_weather","input":{}})");
  EXPECT_EQ(events[12]["delta"].dump(),
            R"({"type":"input_json_delta","partial_json":"{\"city\":\"Rome\"}"})");
  EXPECT_EQ(events[15]["delta"]["partial_json"], "{}");
  EXPECT_EQ(events[17].dump(),
            R"({"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},)"
            R"("usage":{"input_tokens":8,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,)"
            R"("output_tokens":7}})");
}

TEST(AnthropicAnswer, TextBehindACallIsABlockOfItsOwn) {
  EXPECT_THAT(
      message_outline(streamed(
          *message_writer(),
          {{.content = "a"}, {.calls = {message_call()}}, {.content = "b", .finish = AnswerFinish::kStop}},
          kMessageUsage)),
      ElementsAre("message_start", R"(start 0 "text")", "ping", R"(delta 0 "text_delta")", "stop 0",
                  R"(start 1 "tool_use")", R"(delta 1 "input_json_delta")", "stop 1", R"(start 2 "text")",
                  R"(delta 2 "text_delta")", "stop 2", "message_delta", "message_stop"));
}

TEST(AnthropicAnswer, NothingSaidIsNoBlock) {
  EXPECT_THAT(message_outline(streamed(*message_writer(), {{.finish = AnswerFinish::kStop}}, kMessageUsage)),
              ElementsAre("message_start", "message_delta", "message_stop"));
  EXPECT_EQ(Json::parse(whole(*message_writer(), {}, kMessageUsage))["content"], Json::array());
}

TEST(AnthropicAnswer, AFailureInAStreamIsItsLastEvent) {
  const std::string text = streamed(*message_writer(), {{.content = "a"}}, kMessageUsage,
                                    ApiError{.status = 504, .message = "too long", .code = "timeout"});
  EXPECT_THAT(message_outline(text),
              ElementsAre("message_start", R"(start 0 "text")", "ping", R"(delta 0 "text_delta")", "error"));
  EXPECT_EQ(message_events(text).back().dump(),
            R"({"type":"error","error":{"type":"timeout_error","message":"too long"},"request_id":null})");
}

TEST(AnthropicAnswer, WhatKeepsTheStreamAliveIsAPing) {
  EXPECT_THAT(message_outline(std::string(message_writer()->keep_alive())), ElementsAre("ping"));
}

TEST(AnthropicAnswer, AWholeHasTheBlocksOfTheStream) {
  const std::string text = whole(
      *message_writer(),
      {.reasoning = "hm", .content = "I look", .calls = {message_call()}, .finish = AnswerFinish::kCalls},
      kMessageUsage);
  EXPECT_EQ(text,
            R"({"id":"msg_1f","type":"message","role":"assistant","model":"demo","content":[)"
            R"({"type":"thinking","thinking":"hm","signature":"unsigned"},{"type":"text","text":"I look"},)"
            R"({"type":"tool_use","id":"call_1","name":"get_weather","input":{"city":"Rome"}}],)"
            R"("stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":8,)"
            R"("cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":7}})"
            "\n");
}

TEST(AnthropicAnswer, AThoughtThatIsOmittedIsOnlySaidToHaveBeenThere) {
  EXPECT_THAT(
      message_outline(
          streamed(*message_writer(false), {{.reasoning = "hm"}, {.content = "a"}}, kMessageUsage)),
      ElementsAre("message_start", R"(start 0 "thinking")", "ping", R"(delta 0 "signature_delta")", "stop 0",
                  R"(start 1 "text")", R"(delta 1 "text_delta")", "stop 1", "message_delta", "message_stop"));
  const Json message =
      Json::parse(whole(*message_writer(false), {.reasoning = "hm", .content = "a"}, kMessageUsage));
  EXPECT_EQ(message["content"][0]["type"], "thinking");
  EXPECT_EQ(message["content"][0]["thinking"], "");
}

TEST(AnthropicAnswer, WhyItEndedIsToldInItsWords) {
  const auto reason = [](AnswerChoice choice) {
    const Json message = Json::parse(whole(*message_writer(), choice, kMessageUsage));
    const std::string stream = streamed(
        *message_writer(),
        {{.finish = choice.finish, .stop_string = choice.stop_string, .context_full = choice.context_full}},
        kMessageUsage);
    const Json delta = message_events(stream)[1]["delta"];
    EXPECT_EQ(delta["stop_reason"], message["stop_reason"]);
    EXPECT_EQ(delta["stop_sequence"], message["stop_sequence"]);
    return delta["stop_reason"].get<std::string>() + " " + delta["stop_sequence"].dump();
  };
  EXPECT_EQ(reason({.finish = AnswerFinish::kStop}), "end_turn null");
  EXPECT_EQ(reason({.finish = AnswerFinish::kStop, .stop_string = "END"}), R"(stop_sequence "END")");
  EXPECT_EQ(reason({.finish = AnswerFinish::kLength}), "max_tokens null");
  EXPECT_EQ(reason({.finish = AnswerFinish::kLength, .context_full = true}),
            "model_context_window_exceeded null");
  EXPECT_EQ(reason({.finish = AnswerFinish::kCalls}), "tool_use null");
}

TEST(AnthropicAnswer, ArgumentsThatAreNoObjectAreToldAsWhatTheyAre) {
  for (const char* arguments : {"{\"a\":", "[1]", "so"}) {
    const Json message =
        Json::parse(whole(*message_writer(), {.calls = {message_call(arguments)}}, kMessageUsage));
    EXPECT_EQ(message["content"][0]["input"], (Json{{"INVALID_JSON", arguments}}));
  }
}

TEST(AnthropicAnswer, EachStatusHasItsTypeOfError) {
  for (const auto& [status, type] :
       std::initializer_list<std::pair<int, const char*>>{{400, "invalid_request_error"},
                                                          {401, "authentication_error"},
                                                          {403, "permission_error"},
                                                          {404, "not_found_error"},
                                                          {405, "invalid_request_error"},
                                                          {408, "timeout_error"},
                                                          {413, "request_too_large"},
                                                          {415, "invalid_request_error"},
                                                          {429, "rate_limit_error"},
                                                          {500, "api_error"},
                                                          {502, "api_error"},
                                                          {503, "overloaded_error"},
                                                          {504, "timeout_error"}}) {
    const Json error =
        Json::parse(AnthropicDialect().error({.status = status, .message = "so \"it\" is"}).text);
    EXPECT_EQ(error["type"], "error");
    EXPECT_EQ(error["error"]["type"], type) << status;
    EXPECT_EQ(error["error"]["message"], "so \"it\" is");
  }
}

}  // namespace
}  // namespace odmoe::server
