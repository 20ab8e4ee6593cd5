#include "server/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "odmoe/format.h"
#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using testing::kVocab;

ApiError chat_error(std::string_view body) {
  const auto request = parse_chat_request(body, kVocab);
  return request.has_value() ? ApiError{.status = 200} : request.error();
}
ApiError completion_error(std::string_view body) {
  const auto request = parse_completion_request(body, kVocab);
  return request.has_value() ? ApiError{.status = 200} : request.error();
}

TEST(Request, DefaultsAreOpenAis) {
  const auto chat = parse_chat_request(R"({"messages":[{"role":"user","content":"hi"}]})", kVocab).value();
  EXPECT_EQ(chat.sampling.temperature, 1);
  EXPECT_EQ(chat.sampling.top_p, 1);
  EXPECT_EQ(chat.sampling.top_k, 0);
  EXPECT_EQ(chat.sampling.min_p, 0);
  EXPECT_EQ(chat.max_tokens, -1);
  EXPECT_EQ(chat.n, 1);
  EXPECT_FALSE(chat.stream);
  EXPECT_EQ(parse_completion_request(R"({"prompt":"x"})", kVocab).value().max_tokens, 16);
}

TEST(Request, EveryFieldOfACompletionIsRead) {
  const auto request = parse_completion_request(R"({"model":"m","prompt":["a",[1,2]],"max_tokens":5,
      "temperature":0.5,"top_p":0.9,"top_k":7,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,
      "repetition_penalty":1.5,"seed":-3,"n":2,"stop":["x","y"],"logit_bias":{"5":-100,"6":2.5},"logprobs":3,
      "echo":true,"stream":true,"stream_options":{"include_usage":true},"user":"u","unheard_of":[1]})",
                                                kVocab)
                           .value();
  EXPECT_EQ(request.prompts.size(), 2);
  EXPECT_EQ(std::get<std::string>(request.prompts[0]), "a");
  EXPECT_THAT(std::get<std::vector<Token>>(request.prompts[1]), ElementsAre(1, 2));
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_FLOAT_EQ(request.sampling.temperature, 0.5F);
  EXPECT_FLOAT_EQ(request.sampling.top_p, 0.9F);
  EXPECT_EQ(request.sampling.top_k, 7);
  EXPECT_FLOAT_EQ(request.sampling.min_p, 0.1F);
  EXPECT_EQ(request.sampling.presence_penalty, 1);
  EXPECT_EQ(request.sampling.frequency_penalty, -1);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(request.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(request.n, 2);
  EXPECT_THAT(request.stop, ElementsAre("x", "y"));
  ASSERT_EQ(request.logit_bias.size(), 2);
  EXPECT_EQ(request.logit_bias[0].second, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(request.logit_bias[1], std::pair(6, 2.5F));
  EXPECT_EQ(request.top_logprobs, 3);
  EXPECT_TRUE(request.echo && request.stream && request.include_usage);
}

TEST(Request, EveryFieldOfAChatIsRead) {
  const auto request = parse_chat_request(R"({"messages":[
      {"role":"developer","content":"S"},
      {"role":"user","content":[{"type":"text","text":"see "},{"type":"image_url","image_url":{"url":"data:x"}},
                                {"type":"text","text":" that"}]},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
           "function":{"name":"f","arguments":"{\"a\":1}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"42"}],
      "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],
      "tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,
      "logprobs":true,"top_logprobs":2,"max_completion_tokens":9,"max_tokens":5,
      "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},
      "chat_template_kwargs":{"thinking":false}})",
                                          kVocab)
                           .value();
  const auto& turns = request.conversation.turns;
  ASSERT_EQ(turns.size(), 4);
  EXPECT_EQ(turns[0].role, "system");
  EXPECT_EQ(turns[1].content, "see  that");
  ASSERT_EQ(request.images.size(), 1);
  EXPECT_EQ(request.images[0].turn, 1);
  EXPECT_EQ(request.images[0].at, 4);
  EXPECT_EQ(turns[2].tool_calls.at(0).arguments, R"({"a":1})");
  EXPECT_EQ(turns[3].tool_call_id, "c1");
  EXPECT_EQ(request.tools.at(0).name, "f");
  EXPECT_EQ(request.tool_choice.kind, ToolChoice::Kind::kNamed);
  EXPECT_FALSE(request.parallel_tool_calls);
  EXPECT_EQ(request.top_logprobs, 2);
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.form.schema["type"], "object");
  EXPECT_EQ(request.conversation.thinking, false);
}

TEST(Request, WhatIsWrongIsNamedWithItsField) {
  EXPECT_EQ(chat_error("{}").param, "messages");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"king","content":"x"}]})").param, "messages[0].role");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":5}]})").param, "messages[0].content");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":"x"}],"temperature":-1})").param,
            "temperature");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":"x"}],"temperature":"1"})").param,
            "temperature");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":"x"}],"n":0})").param, "n");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":"x"}],"n":1.5})").param, "n");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":"x"}],"top_logprobs":2})").param,
            "top_logprobs");
  EXPECT_EQ(chat_error(R"({"messages":[{"role":"user","content":"x"}],"functions":[{}]})").param,
            "functions");
  EXPECT_EQ(completion_error(R"({"prompt":[1000]})").param, "prompt");
  EXPECT_EQ(completion_error(R"({"prompt":[-1]})").param, "prompt");
  EXPECT_EQ(completion_error(R"({"prompt":"x","suffix":"y"})").param, "suffix");
  EXPECT_EQ(completion_error(R"({"prompt":"x","best_of":2})").param, "best_of");
  EXPECT_EQ(completion_error(R"({"prompt":"x","logit_bias":{"x":1}})").param, "logit_bias");
  EXPECT_EQ(completion_error("[]").status, 400);
  EXPECT_THAT(completion_error("{\"prompt\":").message, HasSubstr("not valid JSON"));
}

TEST(Request, SmallBodiesThatWouldGrowLargeAreRefused) {
  EXPECT_THAT(chat_error(std::string(100, '[')).message, HasSubstr("nests deeper"));
  std::string keys = "{\"a\":1";
  for (int i = 0; i < 490'000; ++i) keys += odmoe::format(",\"{}\":1", i);
  EXPECT_THAT(chat_error(keys + "}").message, HasSubstr("more than 8192 keys"));
  EXPECT_EQ(
      chat_error(
          R"({"messages":[{"role":"user","content":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}]})")
          .status,
      200);
}

TEST(Request, WhatABodysValuesTakeIsTakenFromTheAccountBeforeTheyAreThere) {
  const auto memory = std::make_shared<RequestMemory>(uint64_t{8} << 20);
  std::string body = R"({"prompt":"x","unknown":[0)";
  for (int i = 0; i < 300'000; ++i) body += ",[]";
  body += "]}";
  {
    RequestWork work(memory, std::nullopt, nullptr, {});
    const auto request = parse_completion_request(body, kVocab, &work);
    ASSERT_FALSE(request.has_value());
    EXPECT_EQ(request.error().status, 413);
    EXPECT_LT(memory->taken(), memory->total());
  }
  EXPECT_EQ(memory->taken(), 0);
  RequestWork work(memory, std::nullopt, nullptr, {});
  const std::string prompt(100'000, 'x');
  const auto request = parse_completion_request(odmoe::format(R"({{"prompt":"{}"}})", prompt), kVocab, &work);
  ASSERT_TRUE(request.has_value());
  EXPECT_GE(work.bytes(), 100'000);  // the prompt; what reading it took is given back
  EXPECT_LT(work.bytes(), 150'000);
}

TEST(Request, ReadingABodyEndsAtTheDeadline) {
  std::string body = R"({"prompt":"x","unknown":[0)";
  for (int i = 0; i < 100'000; ++i) body += ",0";
  body += "]}";
  RequestWork work(std::make_shared<RequestMemory>(uint64_t{64} << 20),
                   RequestWork::Clock::now() - std::chrono::seconds(1), nullptr, {});
  EXPECT_EQ(parse_completion_request(body, kVocab, &work).error().status, 504);
}

}  // namespace
}  // namespace odmoe::server
