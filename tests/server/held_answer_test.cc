// Answers that are held to a schema, against everything else a request may ask for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::held_answer_test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::ordered_json;

class HeldAnswer : public ::testing::Test {
 protected:
  HeldAnswer() : client_("127.0.0.1", server_.port()) {
    client_.set_read_timeout(60);
    client_.set_keep_alive(true);
    client_.set_tcp_nodelay(true);  // it sends a head and a body apart, thousands of times
  }

  // A bias of -100 on every token whose text is so.
  Json forbid(const std::function<bool(const std::string&)>& is_so) {
    const int n_vocab = Json::parse(client_.Get("/v1/models")->body)["data"][0]["meta"]["n_vocab"].get<int>();
    Json bias = Json::object();
    for (int token = 0; token < n_vocab; ++token) {
      const auto answer =
          client_.Post("/detokenize", odmoe::format(R"({{"tokens":[{}]}})", token), "application/json");
      const std::string text = Json::parse(answer->body)["content"].get<std::string>();
      if (!text.empty() && is_so(text)) bias[std::to_string(token)] = -100;
    }
    return bias;
  }
  httplib::Result ask(const Json& schema, const Json& more) {
    Json body = {
        {"prompt", "KING RICHARD:"},
        {"max_tokens", 40},
        {"seed", 3},
        {"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}}}};
    body.update(more);
    return client_.Post("/v1/completions", body.dump(), "application/json");
  }

  ServerProcess server_{{}};
  httplib::Client client_;
};

TEST_F(HeldAnswer, ABiasThatLeavesNothingToBeginWithIsRefused) {
  const Json schema = {{"type", "boolean"}};
  const Json bias =
      forbid([](const std::string& text) { return std::string("tf \t\r\n").contains(text[0]); });
  for (const double temperature : {0.0, 1.0}) {
    for (const bool stream : {false, true}) {
      const auto answer =
          ask(schema, {{"logit_bias", bias}, {"temperature", temperature}, {"stream", stream}});
      EXPECT_EQ(answer->status, 400) << answer->body;
      const Json error = Json::parse(answer->body)["error"];
      EXPECT_EQ(error["type"], "invalid_request_error");
      EXPECT_EQ(error["param"], "logit_bias");
      EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("'f'"));
    }
  }
  // It is only made unlikely, not forbidden, and nothing else is there.
  Json unlikely = Json::object();
  for (const auto& [token, value] : bias.items()) unlikely[token] = -99;
  const auto answer = ask(schema, {{"logit_bias", unlikely}});
  EXPECT_EQ(answer->status, 200);
  EXPECT_TRUE(Json::parse(Json::parse(answer->body)["choices"][0]["text"].get<std::string>()).is_boolean());
}

TEST_F(HeldAnswer, ABiasThatLeavesNothingToGoOnWithIsAnErrorWhereItIsFound) {
  const Json schema = {{"const", "ax"}};
  const Json bias = forbid([](const std::string& text) { return text.contains('x'); });
  const auto whole = ask(schema, {{"logit_bias", bias}, {"n", 2}});
  EXPECT_EQ(whole->status, 400) << whole->body;
  EXPECT_EQ(Json::parse(whole->body)["error"]["param"], "logit_bias");

  const auto stream = ask(schema, {{"logit_bias", bias}, {"stream", true}});
  EXPECT_EQ(stream->status, 200);
  EXPECT_THAT(stream->body, HasSubstr(R"("param":"logit_bias")"));
  EXPECT_THAT(stream->body, HasSubstr("'x'"));
  EXPECT_THAT(stream->body, Not(HasSubstr(R"("finish_reason":"stop")")));
  EXPECT_THAT(stream->body, EndsWith("data: [DONE]\n\n"));
}

TEST_F(HeldAnswer, AFullAnswerWhoseEndIsForbiddenEndsAllTheSame) {
  // What is left of all tokens: digits.
  const Json bias =
      forbid([](const std::string& text) { return text.find_first_of(" \t\r\n") != std::string::npos; });
  const Json schema = {{"type", "integer"}, {"minimum", 100}, {"maximum", 999}};
  for (const bool ignore_eos : {false, true}) {
    const auto answer = ask(schema, {{"logit_bias", bias}, {"ignore_eos", ignore_eos}, {"logprobs", 2}});
    ASSERT_EQ(answer->status, 200) << answer->body;
    const Json choice = Json::parse(answer->body)["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_EQ(choice["text"].get<std::string>().size(), 3) << choice;
  }
}

}  // namespace
}  // namespace odmoe::testing::held_answer_test
