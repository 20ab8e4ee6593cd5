#include "server/ollama_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "odmoe/format.h"
#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Treatment = FieldRule::Treatment;

using testing::kVocab;

std::string ollama_chat_body(std::string_view more = "",
                             std::string_view messages = R"([{"role":"user","content":"x"}])") {
  return odmoe::format(R"({{"model":"m","messages":{}{}{}}})", messages, more.empty() ? "" : ",", more);
}
std::string generate_body(std::string_view more = "") {
  return odmoe::format(R"({{"model":"m","prompt":"x"{}{}}})", more.empty() ? "" : ",", more);
}
OllamaRequest ollama_taken(ApiResult<OllamaRequest> request) {
  EXPECT_TRUE(request.has_value()) << (request.has_value() ? "" : request.error().message);
  return request.has_value() ? *std::move(request) : OllamaRequest();
}
ChatRequest ollama_chat(const std::string& body) {
  return std::get<ChatRequest>(ollama_taken(parse_ollama_chat(body, kVocab)).generation);
}
ChatRequest generated_chat(const std::string& body) {
  return std::get<ChatRequest>(ollama_taken(parse_ollama_generate(body, kVocab)).generation);
}
ApiError ollama_error_of(const ApiResult<OllamaRequest>& request) {
  return request.has_value() ? ApiError{.status = 200, .message = "", .param = ""} : request.error();
}
std::string ollama_chat_field(const std::string& body) {
  return ollama_error_of(parse_ollama_chat(body, kVocab)).param;
}
std::string ollama_generate_field(const std::string& body) {
  return ollama_error_of(parse_ollama_generate(body, kVocab)).param;
}

TEST(OllamaRequest, DefaultsAreOllamas) {
  const ChatRequest chat = ollama_chat(ollama_chat_body());
  EXPECT_TRUE(chat.stream);
  EXPECT_FLOAT_EQ(chat.sampling.temperature, 0.8F);
  EXPECT_EQ(chat.sampling.top_k, 40);
  EXPECT_FLOAT_EQ(chat.sampling.top_p, 0.9F);
  EXPECT_EQ(chat.sampling.min_p, 0);
  EXPECT_EQ(chat.sampling.repetition_penalty, 1);
  EXPECT_EQ(chat.sampling.penalty_last_n, 64);
  EXPECT_EQ(chat.max_tokens, -1);
  EXPECT_EQ(chat.top_logprobs, -1);
  EXPECT_EQ(chat.conversation.thinking, std::nullopt);
}

TEST(OllamaRequest, EveryOptionIsRead) {
  const ChatRequest chat = ollama_chat(ollama_chat_body(R"("stream":false,"think":false,"keep_alive":"5m",
      "logprobs":true,"top_logprobs":2,"format":{"type":"integer"},
      "options":{"temperature":0.5,"top_k":7,"top_p":0.7,"min_p":0.1,"seed":3,"stop":["a","b"],
      "num_predict":9,"repeat_penalty":1.5,"repeat_last_n":5,"presence_penalty":1,"frequency_penalty":0.5,
      "num_ctx":4096,"num_thread":8,"num_gpu":1,"use_mmap":true,"mirostat":0,"unheard_of":1})"));
  EXPECT_FALSE(chat.stream);
  EXPECT_FLOAT_EQ(chat.sampling.temperature, 0.5F);
  EXPECT_EQ(chat.sampling.top_k, 7);
  EXPECT_FLOAT_EQ(chat.sampling.top_p, 0.7F);
  EXPECT_FLOAT_EQ(chat.sampling.min_p, 0.1F);
  EXPECT_EQ(chat.seed, 3);
  EXPECT_THAT(chat.stop, ElementsAre("a", "b"));
  EXPECT_EQ(chat.max_tokens, 9);
  EXPECT_FLOAT_EQ(chat.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(chat.sampling.penalty_last_n, 5);
  EXPECT_EQ(chat.sampling.presence_penalty, 1);
  EXPECT_FLOAT_EQ(chat.sampling.frequency_penalty, 0.5F);
  EXPECT_EQ(chat.conversation.thinking, false);
  EXPECT_EQ(chat.top_logprobs, 2);
  EXPECT_EQ(chat.form.kind, AnswerForm::Kind::kSchema);
}

TEST(OllamaRequest, AsManyTokensAsFitWhereTheirNumberIsNotAboveZero) {
  for (const char* number : {"-1", "-2", "0", "null"}) {
    EXPECT_EQ(
        ollama_chat(ollama_chat_body(odmoe::format(R"("options":{{"num_predict":{}}})", number))).max_tokens,
        -1);
  }
  EXPECT_EQ(ollama_chat_field(ollama_chat_body(R"("options":{"num_predict":-3})")), "options.num_predict");
}

TEST(OllamaRequest, MessagesAreReadAsOllamaHasThem) {
  const ChatRequest chat = ollama_chat(ollama_chat_body("", R"([{"role":"system","content":"S"},
      {"role":"user","content":"see","images":["iVBORw0KGgo=","/9j/4AAQ","http://x/y.png"]},
      {"role":"assistant","content":"","thinking":"hm",
       "tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},
      {"role":"tool","content":"42","tool_name":"f"}])"));
  const auto& turns = chat.conversation.turns;
  ASSERT_EQ(turns.size(), 4);
  EXPECT_EQ(turns[1].content, "see");
  ASSERT_EQ(chat.images.size(), 3);
  EXPECT_EQ(chat.images[0].url, "data:image/png;base64,iVBORw0KGgo=");
  EXPECT_EQ(chat.images[1].url, "data:image/jpeg;base64,/9j/4AAQ");
  EXPECT_EQ(chat.images[2].url, "http://x/y.png");
  EXPECT_EQ(chat.images[0].turn, 1);
  EXPECT_EQ(chat.images[0].at, 0);
  EXPECT_EQ(turns[2].reasoning, "hm");
  EXPECT_EQ(turns[2].tool_calls.at(0).arguments, R"({"a":1})");
  EXPECT_EQ(turns[3].name, "f");
  EXPECT_EQ(chat.conversation.continuation, Continuation::kNone);
}

TEST(OllamaRequest, ALastMessageOfTheAssistantsIsContinued) {
  const auto continuation = [](std::string_view last) {
    return ollama_chat(ollama_chat_body("", odmoe::format(R"([{{"role":"user","content":"x"}},{}])", last)))
        .conversation.continuation;
  };
  EXPECT_EQ(continuation(R"({"role":"assistant","content":"I am"})"), Continuation::kAnswer);
  EXPECT_EQ(continuation(R"({"role":"assistant","content":"","thinking":"hm"})"), Continuation::kThought);
  EXPECT_EQ(continuation(R"({"role":"assistant","content":""})"), Continuation::kNone);
  EXPECT_EQ(continuation(R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]})"),
            Continuation::kNone);
}

TEST(OllamaRequest, APromptIsAConversationUnlessItIsRaw) {
  const ChatRequest chat = generated_chat(generate_body(R"("system":"S","images":["iVBO"],"format":"json")"));
  const auto& turns = chat.conversation.turns;
  ASSERT_EQ(turns.size(), 2);
  EXPECT_EQ(turns[0].role, "system");
  EXPECT_EQ(turns[0].content, "S");
  EXPECT_EQ(turns[1].role, "user");
  EXPECT_EQ(turns[1].content, "x");
  EXPECT_EQ(chat.images.at(0).turn, 1);
  EXPECT_EQ(chat.form.kind, AnswerForm::Kind::kObject);
  const auto raw = std::get<CompletionRequest>(
      ollama_taken(parse_ollama_generate(generate_body(R"("raw":true,"options":{"num_predict":3})"), kVocab))
          .generation);
  EXPECT_EQ(std::get<std::string>(raw.prompts.at(0)), "x");
  EXPECT_EQ(raw.max_tokens, 3);
  EXPECT_EQ(raw.sampling.top_k, 40);
  EXPECT_TRUE(raw.stream);
  EXPECT_EQ(ollama_generate_field(generate_body(R"("raw":true,"system":"S")")), "system");
  EXPECT_EQ(ollama_generate_field(generate_body(R"("raw":true,"images":["iVBO"])")), "images");
  EXPECT_EQ(ollama_generate_field(generate_body(R"("raw":true,"think":true)")), "think");
  EXPECT_EQ(ollama_generate_field(generate_body(R"("raw":true,"think":false,"system":"")")), "");
}

TEST(OllamaRequest, WithoutTextOnlyTheModelIsAskedFor) {
  EXPECT_TRUE(ollama_taken(parse_ollama_chat(R"({"model":"m"})", kVocab)).only_loads);
  EXPECT_TRUE(
      ollama_taken(parse_ollama_chat(R"({"model":"m","messages":[],"keep_alive":-1})", kVocab)).only_loads);
  EXPECT_TRUE(ollama_taken(parse_ollama_generate(R"({"model":"m","keep_alive":"10m"})", kVocab)).only_loads);
  for (const char* never : {"0", "\"0\"", "\"0s\"", "0.0"}) {
    const std::string more = odmoe::format(R"("keep_alive":{})", never);
    EXPECT_EQ(ollama_chat_field(odmoe::format("{{{}}}", more)), "keep_alive") << never;
    EXPECT_EQ(ollama_generate_field(odmoe::format("{{{}}}", more)), "keep_alive") << never;
    EXPECT_EQ(ollama_chat_field(ollama_chat_body(more)), "") << never;
  }
}

TEST(OllamaRequest, ThinkingIsASwitchOrALevel) {
  EXPECT_EQ(ollama_chat(ollama_chat_body(R"("think":true)")).conversation.thinking, true);
  EXPECT_EQ(ollama_chat(ollama_chat_body(R"("think":"low")")).conversation.thinking, true);
  EXPECT_EQ(ollama_chat(ollama_chat_body(R"("think":null)")).conversation.thinking, std::nullopt);
  EXPECT_EQ(ollama_chat_field(ollama_chat_body(R"("think":"a bit")")), "think");
  EXPECT_EQ(ollama_generate_field(generate_body(R"("think":5)")), "think");
}

TEST(OllamaRequest, WhatIsWrongIsNamedWithItsPlace) {
  for (const auto& [more, field] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"("options":5)", "options"},
           {R"("options":{"temperature":"hot"})", "options.temperature"},
           {R"("options":{"stop":5})", "options.stop"},
           {R"("options":{"mirostat":1})", "options.mirostat"},
           {R"("options":{"typical_p":0.5})", "options.typical_p"},
           {R"("options":{"penalize_newline":false})", "options.penalize_newline"},
           {R"("options":{"max_tokens":5})", "options.max_tokens"},
           {R"("temperature":0.5)", "temperature"},
           {R"("stream":"no")", "stream"},
           {R"("format":"yaml")", "format"},
           {R"("format":5)", "format"},
           {R"("top_logprobs":2)", "top_logprobs"},
           {R"("context":[1,2])", "context"},
           {R"("template":"{{ .Prompt }}")", "template"}}) {
    EXPECT_EQ(ollama_chat_field(ollama_chat_body(more)), field) << more;
    EXPECT_EQ(ollama_generate_field(generate_body(more)), field) << more;
  }
  EXPECT_EQ(ollama_chat_field(ollama_chat_body(R"("tools":[{"type":"search"}])")), "tools[0].type");
  EXPECT_EQ(ollama_chat_field(ollama_chat_body("", R"([{"role":"king"}])")), "messages[0].role");
  EXPECT_EQ(ollama_chat_field(ollama_chat_body("", R"([{"role":"user","images":"x"}])")),
            "messages[0].images");
  EXPECT_EQ(ollama_chat_field(ollama_chat_body("", R"([{"role":"user","images":[5]}])")),
            "messages[0].images[0]");
  EXPECT_EQ(ollama_generate_field(generate_body(R"("suffix":"y")")), "suffix");
  EXPECT_EQ(ollama_generate_field(R"({"prompt":5})"), "prompt");
}

TEST(OllamaRequest, HostileBodiesAreRefused) {
  for (const auto parse : {parse_ollama_chat, parse_ollama_generate}) {
    EXPECT_THAT(ollama_error_of(parse(std::string(100, '['), kVocab, nullptr)).message,
                HasSubstr("nests deeper"));
    EXPECT_EQ(ollama_error_of(parse("[]", kVocab, nullptr)).status, 400);
    EXPECT_EQ(ollama_error_of(parse("{\"prompt\":", kVocab, nullptr)).status, 400);
    std::string images = R"("iVBO")";
    for (int i = 0; i < 20; ++i) images += R"(,"iVBO")";
    const std::string body = odmoe::format(
        R"({{"images":[{}],"prompt":"","messages":[{{"role":"user","images":[{}]}}]}})", images, images);
    EXPECT_EQ(ollama_error_of(parse(body, kVocab, nullptr)).status, 400);
  }
}

TEST(OllamaRequest, FieldsAreHonouredOrRefusedByNameOrChangeNothing) {
  const Json meant[] = {0.37, 5, true, "a", Json{{"a", 1}}, Json::array({1}), Json::array({"a"})};
  const auto check = [&](std::span<const FieldRule> rules, std::string_view prefix,
                         const auto& refused_field) {
    for (const FieldRule& rule : rules) {
      for (const Json& value : meant) {
        const Json off = rule.off.empty() ? Json::array() : Json::parse(rule.off);
        if (std::ranges::contains(off, value)) continue;
        const std::string field = refused_field(odmoe::format("\"{}\":{}", rule.name, value.dump()));
        if (rule.treatment == Treatment::kRefused) {
          EXPECT_EQ(field, odmoe::format("{}{}", prefix, rule.name)) << value;
        } else if (rule.treatment == Treatment::kHarmless) {
          EXPECT_EQ(field, "") << rule.name << value;
        }
      }
    }
  };
  check(ollama_chat_rules(), "",
        [](const std::string& more) { return ollama_chat_field(ollama_chat_body(more)); });
  check(ollama_generate_rules(), "",
        [](const std::string& more) { return ollama_generate_field(generate_body(more)); });
  check(ollama_option_rules(), "options.", [](const std::string& more) {
    return ollama_chat_field(ollama_chat_body(odmoe::format(R"("options":{{{}}})", more)));
  });
}

TEST(OllamaRequest, TheDocumentationShowsEveryField) {
  std::ifstream file(std::filesystem::path(ODMOE_SOURCE_DIR) / "docs/server.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const auto rules : {ollama_chat_rules(), ollama_generate_rules(), ollama_option_rules()}) {
    for (const FieldRule& rule : rules) {
      EXPECT_TRUE(text.contains(odmoe::format("`{}`", rule.name))) << rule.name;
    }
  }
}

}  // namespace
}  // namespace odmoe::server
