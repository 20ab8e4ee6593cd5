// Ollama's API as its clients see it: over sockets, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "server/server_process.h"

namespace odmoe::testing::ollama_test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class Ollama : public ::testing::Test {
 protected:
  explicit Ollama(const std::vector<std::string>& options = {"--context", "1024"})
      : server_(options), client_("127.0.0.1", server_.port()) {
    client_.set_read_timeout(60);
  }

  Json ask(const char* path, Json body, int status = 200) {
    const auto answer = client_.Post(path, body.dump(), "application/json");
    EXPECT_TRUE(answer) << httplib::to_string(answer.error());
    if (!answer) return {};
    EXPECT_EQ(answer->status, status) << answer->body;
    return Json::parse(answer->body);
  }
  Json whole(const char* path, Json body) {
    body["stream"] = false;
    return ask(path, body);
  }
  std::vector<Json> stream(const char* path, const Json& body) {
    const auto answer = client_.Post(path, body.dump(), "application/json");
    EXPECT_TRUE(answer) << httplib::to_string(answer.error());
    EXPECT_EQ(answer->get_header_value("Content-Type"), "application/x-ndjson");
    std::vector<Json> lines;
    std::istringstream text(answer->body);
    for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
    return lines;
  }
  static Json chat(const std::string& text, int num_predict = 12) {
    return {{"model", "demo"},
            {"messages", Json::array({{{"role", "user"}, {"content", text}}})},
            {"options", {{"temperature", 0}, {"num_predict", num_predict}}}};
  }

  ServerProcess server_;
  httplib::Client client_;
};

TEST_F(Ollama, AStreamIsTheDefaultAndSaysWhatAWholeSays) {
  const Json once = whole("/api/chat", chat("Who are you?"));
  EXPECT_EQ(once["model"], "demo");
  EXPECT_EQ(once["message"]["role"], "assistant");
  EXPECT_EQ(once["done"], true);
  EXPECT_EQ(once["done_reason"], "length");
  EXPECT_EQ(once["eval_count"], 12);
  EXPECT_GT(once["prompt_eval_count"].get<int>(), 3);
  EXPECT_GT(once["total_duration"].get<int64_t>(), 0);
  const auto lines = stream("/api/chat", chat("Who are you?"));
  ASSERT_GT(lines.size(), 3);
  std::string text;
  for (const Json& line : lines) text += line["message"]["content"].get<std::string>();
  EXPECT_EQ(Json(text), once["message"]["content"]);
  EXPECT_EQ(lines[0]["done"], false);
  EXPECT_EQ(lines.back()["done"], true);
  EXPECT_EQ(lines.back()["done_reason"], "length");
  EXPECT_EQ(lines.back()["eval_count"], 12);
}

TEST_F(Ollama, TextIsGeneratedInTheTemplateAndWithoutIt) {
  const Json options = {{"temperature", 0}, {"num_predict", 12}};
  const Json in_template = whole("/api/generate", {{"prompt", "Who are you?"}, {"options", options}});
  EXPECT_EQ(in_template["response"], whole("/api/chat", chat("Who are you?"))["message"]["content"]);
  const Json raw = whole("/api/generate", {{"prompt", "KING RICHARD:"}, {"raw", true}, {"options", options}});
  const auto completion = client_.Post(
      "/v1/completions", R"({"prompt":"KING RICHARD:","max_tokens":12,"temperature":0})", "application/json");
  EXPECT_EQ(raw["response"], Json::parse(completion->body)["choices"][0]["text"]);
  std::string text;
  for (const Json& line :
       stream("/api/generate", {{"prompt", "KING RICHARD:"}, {"raw", true}, {"options", options}})) {
    text += line["response"].get<std::string>();
  }
  EXPECT_EQ(Json(text), raw["response"]);
}

TEST_F(Ollama, CallsHaveTheirArgumentsAsObjects) {
  Json body = chat("Weather?", 200);
  body["tools"] = Json::array({{{"type", "function"},
                                {"function",
                                 {{"name", "get_weather"},
                                  {"parameters",
                                   {{"type", "object"},
                                    {"properties", {{"city", {{"enum", {"Verona"}}}}}},
                                    {"required", Json::array({"city"})}}}}}}});
  body["tool_choice"] = "required";
  body["parallel_tool_calls"] = false;
  const Json message = whole("/api/chat", body)["message"];
  ASSERT_EQ(message["tool_calls"].size(), 1) << message;
  const Json function = message["tool_calls"][0]["function"];
  EXPECT_EQ(function["name"], "get_weather");
  EXPECT_EQ(function["arguments"]["city"], "Verona");
  body["messages"].push_back(message);
  body["messages"].push_back({{"role", "tool"}, {"tool_name", "get_weather"}, {"content", "Rain."}});
  body["tool_choice"] = "none";
  body["options"]["num_predict"] = 5;
  EXPECT_EQ(whole("/api/chat", body)["done"], true);
}

TEST_F(Ollama, AnswersAreHeldToAFormAndTellTheirProbabilities) {
  Json body = chat("A king?", 300);
  body["format"] = {{"type", "object"},
                    {"properties", {{"kind", {{"enum", {"king", "queen"}}}}}},
                    {"required", Json::array({"kind"})},
                    {"additionalProperties", false}};
  const Json kind = Json::parse(whole("/api/chat", body)["message"]["content"].get<std::string>())["kind"];
  EXPECT_TRUE(kind == "king" || kind == "queen");
  Json likely = chat("Who are you?", 3);
  likely["logprobs"] = true;
  likely["top_logprobs"] = 2;
  const Json told = whole("/api/chat", likely)["logprobs"];
  ASSERT_EQ(told.size(), 3);
  EXPECT_LE(told[0]["logprob"].get<double>(), 0);
  EXPECT_EQ(told[0]["top_logprobs"].size(), 2);
  EXPECT_EQ(stream("/api/chat", likely)[0]["logprobs"][0]["token"], told[0]["token"]);
}

TEST_F(Ollama, TellsOfItsOneModel) {
  const Json tags = Json::parse(client_.Get("/api/tags")->body)["models"];
  ASSERT_EQ(tags.size(), 1);
  EXPECT_EQ(tags[0]["name"], "demo:latest");
  EXPECT_EQ(tags[0]["digest"].get<std::string>().size(), 64);
  EXPECT_GT(tags[0]["size"].get<int64_t>(), 0);
  EXPECT_EQ(tags[0]["details"]["format"], "gguf");
  EXPECT_EQ(tags[0]["details"]["quantization_level"], "Q8_0");
  const Json running = Json::parse(client_.Get("/api/ps")->body)["models"];
  ASSERT_EQ(running.size(), 1);
  EXPECT_EQ(running[0]["digest"], tags[0]["digest"]);
  EXPECT_EQ(running[0]["context_length"], 1024);
  EXPECT_TRUE(Json::parse(client_.Get("/api/version")->body)["version"].is_string());
  for (const char* name : {"demo", "demo:latest"}) {
    const Json shown = ask("/api/show", {{"model", name}});
    const std::string architecture = shown["model_info"]["general.architecture"];
    EXPECT_EQ(shown["model_info"][architecture + ".context_length"], 1024);
    EXPECT_EQ(shown["capabilities"][0], "completion");
    EXPECT_THAT(shown["template"].get<std::string>(), HasSubstr("{"));
  }
  EXPECT_THAT(ask("/api/show", {{"model", "other"}}, 404)["error"].get<std::string>(), HasSubstr("demo"));
  EXPECT_EQ(ask("/api/chat", {{"model", "demo"}})["done_reason"], "load");
  EXPECT_EQ(ask("/api/generate", {{"model", "demo"}})["done_reason"], "load");
}

TEST_F(Ollama, WhatIsNotHereSaysSo) {
  for (const char* path :
       {"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/embed", "/api/embeddings"}) {
    EXPECT_THAT(ask(path, {{"model", "demo"}, {"input", "x"}}, 501)["error"].get<std::string>(),
                HasSubstr(path));
  }
  const auto deleted = client_.Delete("/api/delete", R"({"model":"demo"})", "application/json");
  EXPECT_EQ(deleted->status, 501);
  EXPECT_THAT(deleted->body, HasSubstr("/api/delete"));
  EXPECT_EQ(client_.Get("/api/tags")->status, 200);  // on the same connection or another
}

TEST_F(Ollama, ErrorsHaveItsShape) {
  Json body = chat("x");
  body["options"]["mirostat"] = 2;
  EXPECT_THAT(ask("/api/chat", body, 400)["error"].get<std::string>(), HasSubstr("options.mirostat"));
  EXPECT_THAT(ask("/api/chat", chat(std::string(20'000, 'x')), 400)["error"].get<std::string>(),
              HasSubstr("context"));
  EXPECT_EQ(client_.Get("/api/chat")->status, 405);
  EXPECT_TRUE(Json::parse(client_.Get("/api/chat")->body)["error"].is_string());
}

class OllamaInAHurry : public Ollama {
 protected:
  OllamaInAHurry() : Ollama({"--context", "32768", "--timeout", "1"}) {}
};

TEST_F(OllamaInAHurry, AFailureInTheMiddleIsTheLastLineOfAStream) {
  const auto lines = stream("/api/generate", {{"prompt", "KING RICHARD:"},
                                              {"raw", true},
                                              {"options", {{"ignore_eos", true}, {"num_predict", 30'000}}}});
  ASSERT_GT(lines.size(), 1);
  EXPECT_THAT(lines.back()["error"].get<std::string>(), HasSubstr("--timeout"));
}

}  // namespace
}  // namespace odmoe::testing::ollama_test
