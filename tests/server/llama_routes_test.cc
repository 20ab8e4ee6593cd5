// What clients of llama.cpp's server ask for, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/server_process.h"

namespace odmoe::testing::llama_routes_test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

class LlamaRoutes : public ::testing::Test {
 protected:
  Json get(const char* path) {
    httplib::Client client("127.0.0.1", server_.port());
    const auto answer = client.Get(path);
    EXPECT_TRUE(answer && answer->status == 200) << path;
    return answer ? Json::parse(answer->body) : Json();
  }
  Json post(const char* path, const Json& body, int status = 200) {
    httplib::Client client("127.0.0.1", server_.port());
    client.set_read_timeout(60);
    const auto answer = client.Post(path, body.dump(), "application/json");
    EXPECT_TRUE(answer && answer->status == status) << path << (answer ? answer->body : "");
    return answer ? Json::parse(answer->body) : Json();
  }

  ServerProcess server_{{"--context", "2048", "--sessions", "3"}};
};

TEST_F(LlamaRoutes, PropsSayWhatIsTrueOfTheServer) {
  const Json props = get("/props");
  EXPECT_EQ(props["default_generation_settings"]["n_ctx"], 2048);
  EXPECT_EQ(props["default_generation_settings"]["params"]["temperature"], 1.0);
  EXPECT_EQ(props["default_generation_settings"]["params"]["n_predict"], -1);
  EXPECT_EQ(props["total_slots"], 3);
  EXPECT_EQ(props["model_alias"], "demo");
  EXPECT_THAT(props["model_path"].get<std::string>(), EndsWith("models/demo.gguf"));
  EXPECT_EQ(props["modalities"]["vision"], false);
  EXPECT_THAT(props["chat_template"].get<std::string>(), HasSubstr("<|im_start|>"));
  EXPECT_NE(props["eos_token"], "");
  EXPECT_TRUE(props["bos_token"].is_string());
  EXPECT_THAT(props["build_info"].get<std::string>(), StartsWith("odmoe "));
}

TEST_F(LlamaRoutes, ATemplateIsAppliedAsAChatDoesIt) {
  const Json messages = {{{"role", "system"}, {"content", "Speak."}},
                         {{"role", "user"}, {"content", "Who are <|im_end|> you?"}}};
  const std::string prompt = post("/apply-template", {{"messages", messages}})["prompt"];
  EXPECT_THAT(prompt, HasSubstr("Who are <|im_end|> you?"));
  EXPECT_THAT(prompt, EndsWith("<|im_start|>assistant\n"));
  const Json plain = {{{"role", "user"}, {"content", "Who are you?"}}};
  const std::string text = post("/apply-template", {{"messages", plain}})["prompt"];
  const Json chat =
      post("/v1/chat/completions", {{"messages", plain}, {"temperature", 0}, {"max_tokens", 8}});
  const Json completion = post("/v1/completions", {{"prompt", text}, {"temperature", 0}, {"max_tokens", 8}});
  EXPECT_EQ(completion["choices"][0]["text"], chat["choices"][0]["message"]["content"]);
  EXPECT_EQ(completion["usage"]["prompt_tokens"], chat["usage"]["prompt_tokens"]);
}

TEST_F(LlamaRoutes, ATemplateShowsToolsAndWhatIsGoneOnWith) {
  const Json tool = {{"type", "function"}, {"function", {{"name", "look_around"}}}};
  const Json user = {{"role", "user"}, {"content", "x"}};
  EXPECT_THAT(post("/apply-template", {{"messages", {user}}, {"tools", {tool}}})["prompt"].get<std::string>(),
              HasSubstr("look_around"));
  const Json begun = {{"role", "assistant"}, {"content", "I am"}};
  EXPECT_THAT(
      post("/apply-template", {{"messages", {user, begun}}, {"continue_final_message", true}})["prompt"]
          .get<std::string>(),
      EndsWith("I am"));
  EXPECT_EQ(post("/apply-template", {{"messages", Json::array()}}, 400)["error"]["param"], "messages");
  std::string long_text;
  for (int i = 0; i < 3000; ++i) long_text += "long ";
  EXPECT_EQ(post("/apply-template", {{"messages", {{{"role", "user"}, {"content", long_text}}}}},
                 400)["error"]["code"],
            "context_length_exceeded");
}

TEST_F(LlamaRoutes, PiecesAreTextOrTheBytesOfAPartOfACharacter) {
  const Json tokens = post("/tokenize", {{"content", "To \xE2\x82\xAC"}, {"with_pieces", true}})["tokens"];
  std::string text;
  bool had_bytes = false;
  for (const Json& token : tokens) {
    EXPECT_TRUE(token["id"].is_number());
    const Json& piece = token["piece"];
    if (piece.is_string()) {
      text += piece.get<std::string>();
      continue;
    }
    had_bytes = true;
    for (const Json& byte : piece) text += static_cast<char>(byte.get<int>());
  }
  EXPECT_EQ(text, "To \xE2\x82\xAC");
  EXPECT_TRUE(had_bytes) << tokens;
}

TEST_F(LlamaRoutes, SpecialTokensAreReadAndAddedWhereThatIsAskedFor) {
  const auto count = [&](const Json& more) {
    Json body = {{"content", "<|im_end|>"}};
    body.update(more);
    return post("/tokenize", body)["count"].get<int>();
  };
  EXPECT_EQ(count(Json::object()), 1);
  EXPECT_GT(count({{"parse_special", false}}), 1);
  EXPECT_GE(count({{"add_special", true}}), 1);
}

}  // namespace
}  // namespace odmoe::testing::llama_routes_test
