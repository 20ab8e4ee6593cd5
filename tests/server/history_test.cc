// Whatever the server says, it takes back: answers of every kind, whole and as clients put them together from
// a stream, are sent back as a part of the conversation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::history_test {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::StartsWith;

const Json kQuestion = {{"role", "user"}, {"content", "Weather in Verona?"}};
const Json kTools =
    Json::parse(R"([{"type":"function","function":{"name":"get_weather","parameters":{"type":"object",
    "properties":{"city":{"enum":["Verona","Venice"]},"days":{"type":"integer","minimum":1,"maximum":9}},
    "required":["city","days"],"additionalProperties":false}}}])");

class Client {
 public:
  explicit Client(const ServerProcess& server) : client_("127.0.0.1", server.port()) {
    client_.set_read_timeout(60);
  }
  std::string post(const Json& body, int status = 200) {
    const auto answer = client_.Post("/v1/chat/completions", body.dump(), "application/json");
    EXPECT_TRUE(answer) << httplib::to_string(answer.error());
    if (!answer) return "{}";
    EXPECT_EQ(answer->status, status) << body.dump() << "\n" << answer->body;
    return answer->body;
  }
  Json ask(const Json& body, int status = 200) { return Json::parse(post(body, status)); }
  // The messages of the choices, put together from their chunks as OpenAI's clients do.
  std::vector<Json> stream(Json body) {
    body["stream"] = true;
    std::vector<Json> messages;
    std::istringstream lines(post(body));
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("data: {")) continue;
      const Json chunk = Json::parse(line.substr(6));
      for (const Json& choice : chunk.at("choices")) {
        const size_t index = choice["index"];
        if (messages.size() <= index) messages.resize(index + 1, Json::object());
        merge(messages[index], choice["delta"]);
      }
    }
    return messages;
  }

 private:
  static void merge(Json& message, const Json& delta) {
    for (const auto& [key, value] : delta.items()) {
      if (key == "tool_calls") {
        for (const Json& call : value) {
          Json& calls = message["tool_calls"];
          const size_t index = call["index"];
          while (calls.size() <= index) calls.push_back(Json::object());
          merge(calls[index], call);
        }
      } else if (value.is_object()) {
        merge(message[key], value);
      } else if (value.is_string() && message.contains(key) && message[key].is_string() && key != "id") {
        message[key] = message[key].get<std::string>() + value.get<std::string>();
      } else {
        message[key] = value;
      }
    }
  }
  httplib::Client client_;
};

// The conversation goes on behind this answer, with results of its calls.
void send_back(Client& client, const Json& answer, const Json& tools = kTools) {
  Json messages = {kQuestion, answer};
  for (const Json& call : answer.value("tool_calls", Json::array())) {
    messages.push_back({{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", nullptr}});
  }
  messages.push_back({{"role", "user"}, {"content", "Go on."}});
  client.ask({{"messages", messages}, {"tools", tools}, {"max_tokens", 1}});
}

TEST(History, AnswersOfEveryKindAreTakenBackWhereverTheyWereCutOff) {
  int n_call = 0, n_cut = 0;
  for (const char* family : {"chatml", "kimi-k2", "deepseek-v3"}) {
    const ServerProcess server({"--chat-template", family, "--context", "1024"});
    Client client(server);
    const std::vector<Json> kinds = {
        {{"temperature", 1}},
        {{"tools", kTools}},
        {{"tools", kTools}, {"tool_choice", "required"}},
        {{"tools", kTools}, {"tool_choice", "required"}, {"parallel_tool_calls", false}, {"n", 2}},
        {{"response_format", {{"type", "json_object"}}}},
        {{"guided_choice", {"Rain.", "Sun."}}},
    };
    for (const Json& kind : kinds) {
      // The longest is enough for a call of the tool; the others cut it off.
      for (const int max_tokens : {0, 1, 12, 40, 150}) {
        Json body = {{"messages", {kQuestion}}, {"max_tokens", max_tokens}, {"seed", max_tokens}};
        body.update(kind);
        std::vector<Json> whole;
        const Json answer = client.ask(body);
        for (const Json& choice : answer["choices"]) {
          n_call += choice["finish_reason"] == "tool_calls" ? 1 : 0;
          n_cut += choice["finish_reason"] == "length" ? 1 : 0;
          whole.push_back(choice["message"]);
          send_back(client, whole.back());
        }
        if (max_tokens != (kind.contains("tools") ? 150 : 40)) continue;
        const std::vector<Json> streamed = client.stream(body);
        ASSERT_EQ(streamed.size(), whole.size());
        for (size_t i = 0; i < whole.size(); ++i) {
          const auto content = [](const Json& message) {
            return message["content"].is_null() ? "" : message["content"].get<std::string>();
          };
          EXPECT_EQ(content(streamed[i]), content(whole[i])) << family << body.dump();
          send_back(client, streamed[i]);
        }
      }
    }
  }
  EXPECT_GT(n_call, 0);
  EXPECT_GT(n_cut, 0);
}

TEST(History, CallsAreTakenBackWhereverTheirArgumentsEnd) {
  for (const char* family : {"chatml", "kimi-k2", "deepseek-v3"}) {
    const ServerProcess server({"--chat-template", family, "--context", "1024"});
    Client client(server);
    const Json answer = client.ask({{"messages", {kQuestion}},
                                    {"tools", kTools},
                                    {"tool_choice", "required"},
                                    {"parallel_tool_calls", false},
                                    {"seed", 4}});
    const Json message = answer["choices"][0]["message"];
    ASSERT_EQ(message["tool_calls"].size(), 1);
    const std::string arguments = message["tool_calls"][0]["function"]["arguments"];
    for (size_t n = 0; n <= arguments.size(); ++n) {
      Json cut = message;
      cut["tool_calls"][0]["function"]["arguments"] = arguments.substr(0, n);
      send_back(client, cut);
    }
    for (const char* other :
         {"nonsense", "[[[[", "\"", "5", "null", "\\u00", "{\"a\":1}{\"b\":2}", "</tool_call>"}) {
      Json cut = message;
      cut["tool_calls"][0]["function"]["arguments"] = other;
      send_back(client, cut);
    }
  }
}

TEST(History, AnAnswerThatIsGoneOnWithIsOneText) {
  const ServerProcess server({"--context", "512", "--chunk", "1"});  // as generated tokens are evaluated
  Client client(server);
  // What the model says by itself, it says too when it is given the beginning of it.
  Json body = {{"messages", {kQuestion}}, {"max_tokens", 24}, {"temperature", 0}};
  const std::string whole = client.ask(body)["choices"][0]["message"]["content"];
  const size_t half = whole.find(' ', whole.size() / 2);
  ASSERT_NE(half, std::string::npos);
  const std::string begun = whole.substr(0, half);
  body["messages"].push_back({{"role", "assistant"}, {"content", begun}});
  const std::string answered_anew = client.ask(body)["choices"][0]["message"]["content"];
  EXPECT_NE(answered_anew, whole.substr(half));
  body["continue_final_message"] = true;
  body["add_generation_prompt"] = false;
  body["max_tokens"] = 4;
  const Json rest = client.ask(body);
  EXPECT_THAT(whole.substr(half), StartsWith(rest["choices"][0]["message"]["content"].get<std::string>()));
  body["echo"] = true;
  EXPECT_EQ(client.ask(body)["choices"][0]["message"]["content"],
            begun + rest["choices"][0]["message"]["content"].get<std::string>());
  EXPECT_EQ(client.stream(body).at(0)["content"],
            begun + rest["choices"][0]["message"]["content"].get<std::string>());
}

TEST(History, AThoughtThatIsGoneOnWithIsAThought) {
  const ServerProcess server({"--context", "512"});
  Client client(server);
  const Json begun = {{"role", "assistant"}, {"content", ""}, {"reasoning_content", "The king"}};
  const Json body = {{"messages", {kQuestion, begun}}, {"max_tokens", 8}, {"continue_final_message", true}};
  const Json message = client.ask(body)["choices"][0]["message"];
  EXPECT_FALSE(message["reasoning_content"].get<std::string>().empty());
  EXPECT_EQ(message["content"], "");
  send_back(client, message);
}

TEST(History, AFormIsOfBothPartsOfAnAnswer) {
  const ServerProcess server({"--context", "512"});
  Client client(server);
  const auto go_on = [&](const char* begun, const Json& form, int status = 200) {
    Json body = {{"messages", {kQuestion, {{"role", "assistant"}, {"content", begun}}}},
                 {"continue_final_message", true},
                 {"seed", 1}};
    body.update(form);
    return client.ask(body, status);
  };
  const Json schema = {{"json_schema", kTools[0]["function"]["parameters"]}};
  const std::string begun = R"({"city": "Ve)";
  const Json answer = go_on(begun.c_str(), schema);
  const Json whole = Json::parse(begun + answer["choices"][0]["message"]["content"].get<std::string>());
  EXPECT_TRUE(whole["days"].is_number_integer());
  EXPECT_EQ(go_on("Rain or ",
                  {{"guided_choice", {"Rain or shine", "Rain or snow"}}})["choices"][0]["message"]["content"]
                .get<std::string>()
                .substr(0, 1),
            "s");
  EXPECT_EQ(go_on("Well, ", schema, 400)["error"]["param"], "messages[1]");
  EXPECT_EQ(go_on("Well, ", {{"tools", kTools}, {"tool_choice", "required"}}, 400)["error"]["param"],
            "messages[1]");
  Json thought = {{"messages", {kQuestion, {{"role", "assistant"}, {"reasoning_content", "Hm"}}}},
                  {"continue_final_message", true}};
  thought.update(schema);
  EXPECT_EQ(client.ask(thought, 400)["error"]["param"], "messages[1]");
}

TEST(History, AChoiceIsWrittenAndNothingElse) {
  const ServerProcess server({"--context", "512"});
  Client client(server);
  for (int seed = 0; seed < 8; ++seed) {
    const Json answer =
        client.ask({{"messages", {kQuestion}}, {"guided_choice", {"yes", "yes, but", "no"}}, {"seed", seed}});
    EXPECT_THAT(answer["choices"][0]["message"]["content"].get<std::string>(),
                ::testing::AnyOf("yes", "yes, but", "no"));
    EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  }
}

TEST(History, AnAnswerMatchesTheWholeOfAPattern) {
  const ServerProcess server({"--context", "512"});
  Client client(server);
  for (int seed = 0; seed < 4; ++seed) {
    const Json answer = client.ask(
        {{"messages", {kQuestion}}, {"guided_regex", R"((rain|"sun"\n), \d{1,2} degrees)"}, {"seed", seed}});
    EXPECT_THAT(answer["choices"][0]["message"]["content"].get<std::string>(),
                ::testing::MatchesRegex("(rain|\"sun\"\n), [0-9][0-9]? degrees"));
    EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  }
  const Json refused = client.ask({{"messages", {kQuestion}}, {"guided_regex", R"((a)\1)"}}, 400);
  EXPECT_EQ(refused["error"]["param"], "guided_regex");
}

TEST(History, AStopTokenEndsTheAnswerUnseen) {
  const ServerProcess server({"--context", "512"});
  Client client(server);
  Json body = {{"messages", {kQuestion}}, {"max_tokens", 12}, {"temperature", 0}, {"logprobs", true}};
  const Json whole = client.ask(body)["choices"][0];
  const std::string token = whole["logprobs"]["content"][5]["token"];
  httplib::Client plain("127.0.0.1", server.port());
  const auto tokens = plain.Post("/tokenize", Json{{"content", token}}.dump(), "application/json");
  ASSERT_TRUE(tokens);
  body["stop_token_ids"] = Json::parse(tokens->body)["tokens"];
  ASSERT_EQ(body["stop_token_ids"].size(), 1) << token;
  const Json stopped = client.ask(body)["choices"][0];
  EXPECT_EQ(stopped["finish_reason"], "stop");
  const std::string text = whole["message"]["content"];
  EXPECT_EQ(stopped["message"]["content"], text.substr(0, text.find(token)));
}

}  // namespace
}  // namespace odmoe::testing::history_test
