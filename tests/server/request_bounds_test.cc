// What one request can make the server take: memory within its plan, and no time that nothing ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::request_bounds_test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
constexpr double kMiB = 1 << 20;

struct Answer {
  int status = 0;
  std::string body;
};

Answer post(const ServerProcess& server, const char* path, const std::string& body) {
  httplib::Client client("127.0.0.1", server.port());
  client.set_read_timeout(300);
  const auto answer = client.Post(path, body, "application/json");
  EXPECT_TRUE(answer) << httplib::to_string(answer.error());
  return answer ? Answer{.status = answer->status, .body = answer->body} : Answer();
}

std::string repeated(std::string_view text, size_t n) {
  std::string all;
  all.reserve(text.size() * n);
  for (size_t i = 0; i < n; ++i) all += text;
  return all;
}

double plan_mib(const ServerProcess& server) {
  const size_t at = server.said().find("memory plan, ");
  return at == std::string::npos ? 0 : std::atof(server.said().c_str() + at + 13);
}

// Of /proc/PID/status, in MiB; 0 where there is none.
double memory_mib(const ServerProcess& server, const std::string& name) {
  std::ifstream file(odmoe::format("/proc/{}/status", server.pid()));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::atof(line.c_str() + name.size() + 1) / 1024;
  }
  return 0;
}

TEST(RequestBounds, LargeRequestsStayWithinThePlanAndGiveTheirMemoryBack) {
  const ServerProcess server({"--max-body", "8MiB"});
  post(server, "/v1/completions", R"({"prompt":"KING","max_tokens":4})");
  if (memory_mib(server, "VmRSS") == 0) GTEST_SKIP() << "this system does not tell a process's memory";
  const double before = memory_mib(server, "VmRSS");
  const size_t most = size_t{7} << 20;
  for (const std::string_view text : {"<|", "1", "x", " ", "KING RICHARD: "}) {
    const std::string content = repeated(text, most / text.size());
    post(server, "/tokenize", Json{{"content", content}, {"with_pieces", true}}.dump());
    post(server, "/v1/completions", Json{{"prompt", content}}.dump());
  }
  post(server, "/v1/completions", "{\"prompt\":[" + repeated("[],", most / 3) + "1]}");
  post(server, "/detokenize", "{\"tokens\":[" + repeated("1,", most / 2) + "1]}");
  EXPECT_LE(memory_mib(server, "VmHWM"), plan_mib(server) * 1.05);
  EXPECT_LE(memory_mib(server, "VmRSS"), before + 8);
}

TEST(RequestBounds, TokensOfALongTextAndTheirPiecesComeBackAsTheyAre) {
  const ServerProcess server({});
  const std::string text = repeated("To be, or not to be \xC3\xA9\xE6\xBC\xA2 ", 4000);
  const Json tokens = Json::parse(post(server, "/tokenize", Json{{"content", text}}.dump()).body);
  EXPECT_EQ(tokens["count"], tokens["tokens"].size());
  EXPECT_EQ(
      Json::parse(post(server, "/detokenize", Json{{"tokens", tokens["tokens"]}}.dump()).body)["content"],
      text);
  const Json pieces = Json::parse(
      post(server, "/tokenize", Json{{"content", "KING \xC3\xA9"}, {"with_pieces", true}}.dump()).body);
  EXPECT_EQ(pieces["count"], pieces["tokens"].size());
  EXPECT_EQ(pieces["tokens"][0]["piece"], "KING");
  EXPECT_TRUE(pieces["tokens"][0]["id"].is_number_integer());
}

TEST(RequestBounds, APromptLongerThanTheContextIsRefusedAsSuch) {
  const ServerProcess server({});
  for (const std::string& prompt : {repeated("1", 600), repeated("1", 1 << 20), repeated("x", 1 << 20)}) {
    const Answer answer = post(server, "/v1/completions", Json{{"prompt", prompt}}.dump());
    EXPECT_EQ(answer.status, 400);
    EXPECT_EQ(Json::parse(answer.body)["error"]["code"], "context_length_exceeded") << answer.body;
    EXPECT_THAT(answer.body, HasSubstr("--context"));
  }
}

TEST(RequestBounds, AnObjectOfVeryManyKeysIsRefused) {
  const ServerProcess server({"--max-body", "8MiB"});
  std::string body = "{\"prompt\":\"x\"";
  for (int i = 0; i < 490'000; ++i) body += odmoe::format(",\"{}\":1", i);
  const Answer answer = post(server, "/v1/completions", body + "}");
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr("more than 8192 keys"));
}

TEST(RequestBounds, WhatNoRequestMayTakeIs413) {
  const ServerProcess server({"--max-body", "2MiB"});
  const Answer answer =
      post(server, "/v1/completions", "{\"prompt\":\"x\",\"y\":[" + repeated("[],", 600'000) + "1]}");
  EXPECT_EQ(answer.status, 413);
  EXPECT_EQ(Json::parse(answer.body)["error"]["code"], "request_too_large");
}

// Probabilities are written as the answer goes out: it is the same as a stream's.
TEST(RequestBounds, AnAnswerOfManyProbabilitiesIsWhole) {
  const ServerProcess server({});
  const std::string body =
      R"("prompt":"KING RICHARD:","max_tokens":24,"temperature":0,"logprobs":20,"echo":true)";
  const Answer whole = post(server, "/v1/completions", "{" + body + "}");
  ASSERT_EQ(whole.status, 200);
  const Json choice = Json::parse(whole.body)["choices"][0];
  Json joined = {{"tokens", Json::array()},
                 {"token_logprobs", Json::array()},
                 {"top_logprobs", Json::array()},
                 {"text_offset", Json::array()}};
  std::string text;
  const std::string stream = post(server, "/v1/completions", "{" + body + ",\"stream\":true}").body;
  for (size_t at = stream.find("data: {"); at != std::string::npos; at = stream.find("data: {", at + 1)) {
    const Json part = Json::parse(stream.substr(at + 6, stream.find('\n', at) - at - 6))["choices"][0];
    text += part["text"].get<std::string>();
    if (part["logprobs"].is_null()) continue;
    for (auto& [key, list] : joined.items()) {
      for (const Json& item : part["logprobs"][key]) list.push_back(item);
    }
  }
  EXPECT_EQ(choice["text"], text);
  EXPECT_EQ(choice["logprobs"], joined);
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_GT(joined["tokens"].size(), 24);
  EXPECT_TRUE(joined["token_logprobs"][0].is_null());
}

}  // namespace
}  // namespace odmoe::testing::request_bounds_test
