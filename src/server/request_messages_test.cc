#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::HasSubstr;

ChatTurn turn(const std::string& message) {
  return chat(chat_body("[" + message + "]")).conversation.turns.at(0);
}
std::string refuses(const std::string& message) { return chat_refuses(chat_body("[" + message + "]")); }

TEST(RequestMessages, ContentMayBeMissingWhateverTheRole) {
  for (const char* role : {"system", "developer", "user", "assistant", "tool", "function"}) {
    for (const char* content : {"", R"(,"content":null)", R"(,"content":"")", R"(,"content":[])"}) {
      EXPECT_EQ(turn(odmoe::format(R"({{"role":"{}"{}}})", role, content)).content, "") << role << content;
    }
  }
}

TEST(RequestMessages, OlderAndNewerRolesAreTheKnownOnes) {
  EXPECT_EQ(turn(R"({"role":"developer","content":"S"})").role, "system");
  const ChatTurn function = turn(R"({"role":"function","name":"f","content":"42"})");
  EXPECT_EQ(function.role, "tool");
  EXPECT_EQ(function.name, "f");
  EXPECT_EQ(refuses(R"({"role":"king","content":"x"})"), "messages[0].role");
  EXPECT_EQ(refuses(R"({"content":"x"})"), "messages[0].role");
}

TEST(RequestMessages, MembersThatAreEmptyOrOfNoConcernAreTaken) {
  for (const char* member :
       {R"("name":null)", R"("tool_calls":null)", R"("tool_calls":[])", R"("function_call":null)",
        R"("refusal":null)", R"("audio":null)", R"("annotations":[])", R"("reasoning_content":null)",
        R"("reasoning":null)", R"("reasoning_details":[{"type":"reasoning.text","text":"x"}])",
        R"("cache_control":{"type":"ephemeral"})", R"("tool_call_id":null)", R"("prefix":false)",
        R"("partial":false)", R"("id":"msg_1","weight":1)"}) {
    for (const char* role : {"system", "user", "assistant", "tool"}) {
      EXPECT_EQ(turn(odmoe::format(R"({{"role":"{}","content":"x",{}}})", role, member)).content, "x")
          << member;
    }
  }
}

TEST(RequestMessages, ImagesBesideTheContentComeBeforeIt) {
  const ChatRequest request = chat(chat_body(
      R"([{"role":"user","content":"x","images":["R0lGODlh","UklGRg","data:image/png;base64,QQ"]}])"));
  ASSERT_EQ(request.images.size(), 3);
  EXPECT_EQ(request.images[0].url, "data:image/gif;base64,R0lGODlh");
  EXPECT_EQ(request.images[1].url, "data:image/webp;base64,UklGRg");
  EXPECT_EQ(request.images[2].url, "data:image/png;base64,QQ");
  EXPECT_EQ(request.images[2].at, 0);
  EXPECT_EQ(refuses(R"({"role":"user","content":"x","images":"QQ"})"), "messages[0].images");
}

TEST(RequestMessages, ARefusalIsWhatWasSaid) {
  EXPECT_EQ(turn(R"({"role":"assistant","content":null,"refusal":"No."})").content, "No.");
  EXPECT_EQ(turn(R"({"role":"assistant","content":[{"type":"refusal","refusal":"No."}]})").content, "No.");
}

TEST(RequestMessages, PartsAreText) {
  EXPECT_EQ(turn(R"({"role":"tool","content":[{"type":"text","text":"a"},"b",{"text":"c"},
                     {"type":"input_text","text":"d","cache_control":{}},{"type":"text","text":null}]})")
                .content,
            "abcd");
  const ChatTurn thought = turn(
      R"({"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"}]})");
  EXPECT_EQ(thought.reasoning, "hm");
  EXPECT_EQ(thought.content, "a");
  for (const char* type : {"input_audio", "file", "video_url", "audio_url", "image", "thinking"}) {
    const auto request =
        read_chat(chat_body(odmoe::format(R"([{{"role":"user","content":[{{"type":"{}"}}]}}])", type)));
    ASSERT_FALSE(request.has_value()) << type;
    EXPECT_EQ(request.error().param, "messages[0].content[0]");
    EXPECT_THAT(request.error().message, HasSubstr(type));
  }
}

TEST(RequestMessages, AResultMayHoldAnImage) {
  const auto request = chat(chat_body(
      R"([{"role":"tool","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:x"}}]}])"));
  ASSERT_EQ(request.images.size(), 1);
  EXPECT_EQ(request.images[0].turn, 0);
  EXPECT_EQ(request.images[0].at, 3);
}

ChatToolCall call(const std::string& json) {
  const ChatTurn said = turn(odmoe::format(R"({{"role":"assistant","tool_calls":[{}]}})", json));
  EXPECT_EQ(said.tool_calls.size(), 1);
  return said.tool_calls.empty() ? ChatToolCall() : said.tool_calls[0];
}

TEST(RequestMessages, ArgumentsAreTakenAsTheyCome) {
  const auto arguments = [](const std::string& json) {
    return call(odmoe::format(R"({{"function":{{"name":"f","arguments":{}}}}})", json));
  };
  EXPECT_EQ(arguments(R"("{\"a\":1}")").arguments, R"({"a":1})");
  EXPECT_EQ(arguments(R"({"a":1})").arguments, R"({"a":1})");
  EXPECT_EQ(arguments("null").arguments, "{}");
  EXPECT_EQ(arguments(R"("")").arguments, "{}");
  EXPECT_EQ(arguments("[1]").arguments, "[1]");
  EXPECT_EQ(arguments("5").arguments, "5");
  for (const char* json : {R"("{\"a\":1}")", R"({"a":1})", "null", "[1]"}) {
    EXPECT_TRUE(arguments(json).arguments_are_json) << json;
  }
  const std::string whole = R"({"city": "Verona", "days": [1, 2, {"x": "\u00e9\""}]})";
  for (size_t n = 1; n < whole.size(); ++n) {  // cut off anywhere
    const ChatToolCall cut = arguments(Json(whole.substr(0, n)).dump());
    EXPECT_EQ(cut.arguments, whole.substr(0, n));
    EXPECT_FALSE(cut.arguments_are_json);
  }
  EXPECT_FALSE(arguments('"' + std::string(5000, '[') + '"').arguments_are_json);
}

TEST(RequestMessages, CallsMayHaveAnyIdAndType) {
  const std::string function = R"("function":{"name":"f","arguments":"{}"})";
  EXPECT_EQ(call(odmoe::format(R"({{"id":"c","index":0,"type":"function",{}}})", function)).id, "c");
  EXPECT_EQ(call(odmoe::format(R"({{"id":7,"type":null,{}}})", function)).id, "7");
  EXPECT_EQ(call(odmoe::format(R"({{"id":null,"type":"",{}}})", function)).id, "");
  EXPECT_EQ(call("{" + function + "}").name, "f");
  const auto refused = [](const char* json) {
    return refuses(odmoe::format(R"({{"role":"assistant","tool_calls":[{}]}})", json));
  };
  EXPECT_EQ(refused(R"({"id":"c","type":"custom","custom":{"name":"f","input":"x"}})"),
            "messages[0].tool_calls[0].type");
  EXPECT_EQ(refused(R"({"id":"c"})"), "messages[0].tool_calls[0]");
  EXPECT_EQ(refused("5"), "messages[0].tool_calls[0]");
  EXPECT_EQ(refuses(odmoe::format(R"({{"role":"user","content":"x","tool_calls":[{{{}}}]}})", function)),
            "messages[0].tool_calls");
}

TEST(RequestMessages, CallsFromBeforeThereWereToolsAreCalls) {
  const ChatTurn said =
      turn(R"({"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\"a\""}})");
  ASSERT_EQ(said.tool_calls.size(), 1);
  EXPECT_EQ(said.tool_calls[0].name, "f");
  EXPECT_EQ(said.tool_calls[0].arguments, R"({"a")");
}

TEST(RequestMessages, AResultWithoutAnIdAnswersTheNextCall) {
  const auto turns = chat(chat_body(R"([{"role":"assistant","tool_calls":[
      {"id":"c1","function":{"name":"f"}},{"id":"c2","function":{"name":"g"}},{"id":"c3","function":{"name":"h"}}]},
      {"role":"tool","tool_call_id":"c2","content":"2"},{"role":"tool","content":"1"},
      {"role":"tool","tool_call_id":"","content":"3"},{"role":"tool","content":"4"},
      {"role":"tool","tool_call_id":9,"content":"5"}])"))
                         .conversation.turns;
  EXPECT_EQ(turns[1].tool_call_id, "c2");
  EXPECT_EQ(turns[2].tool_call_id, "c1");
  EXPECT_EQ(turns[3].tool_call_id, "c3");
  EXPECT_EQ(turns[4].tool_call_id, "");
  EXPECT_EQ(turns[5].tool_call_id, "9");
}

constexpr const char* kBegun = R"([{"role":"user","content":"Q"},{"role":"assistant","content":"Once"}])";
constexpr const char* kContinue = R"("continue_final_message":true,"add_generation_prompt":false)";

TEST(RequestMessages, AnAnswerIsGoneOnWithWhereSomebodySaysSo) {
  const auto continuation = [](const std::string& body) { return chat(body).conversation.continuation; };
  EXPECT_EQ(continuation(chat_body(kBegun)), Continuation::kNone);
  EXPECT_EQ(continuation(chat_body(kBegun, kContinue)), Continuation::kAnswer);
  EXPECT_EQ(continuation(chat_body(kBegun, R"("continue_final_message":true)")), Continuation::kAnswer);
  EXPECT_EQ(continuation(chat_body(kBegun, R"("continue_final_message":false)")), Continuation::kNone);
  for (const char* mark : {"prefix", "partial"}) {
    EXPECT_EQ(
        continuation(chat_body(odmoe::format(
            R"([{{"role":"user","content":"Q"}},{{"role":"assistant","content":"Once","{}":true}}])", mark))),
        Continuation::kAnswer);
  }
}

TEST(RequestMessages, AThoughtIsToldFromAnAnswer) {
  const auto begun = [](std::string_view message) {
    return chat(chat_body(
                    odmoe::format(R"([{{"role":"user","content":"Q"}},{{"role":"assistant",{}}}])", message),
                    kContinue))
        .conversation;
  };
  const Conversation kept_apart = begun(R"("content":"","reasoning_content":"Hm")");
  EXPECT_EQ(kept_apart.continuation, Continuation::kThought);
  EXPECT_EQ(kept_apart.turns.back().reasoning, "Hm");
  const Conversation both = begun(R"("content":"So","reasoning_content":"Hm")");
  EXPECT_EQ(both.continuation, Continuation::kAnswer);
  EXPECT_EQ(both.turns.back().reasoning, "Hm");
  const Conversation open = begun(R"("content":"<think>Hm")");
  EXPECT_EQ(open.continuation, Continuation::kThought);
  EXPECT_EQ(open.turns.back().reasoning, "Hm");
  EXPECT_EQ(open.turns.back().content, "");
  const Conversation closed = begun(R"("content":"<think>\nHm\n</think>\n\nSo")");
  EXPECT_EQ(closed.continuation, Continuation::kAnswer);
  EXPECT_EQ(closed.turns.back().reasoning, "\nHm\n");
  EXPECT_EQ(closed.turns.back().content, "So");
  EXPECT_EQ(begun(R"("content":"<think>")").continuation, Continuation::kThought);
}

TEST(RequestMessages, WhereNothingWasSaidYetTheAnswerBegins) {
  const auto request =
      chat(chat_body(R"([{"role":"user","content":"Q"},{"role":"assistant","content":null}])", kContinue));
  EXPECT_EQ(request.conversation.continuation, Continuation::kNone);
  EXPECT_TRUE(request.conversation.add_generation_prompt);
  EXPECT_EQ(request.conversation.turns.size(), 1);
}

TEST(RequestMessages, WhatCannotBeGoneOnWithIsRefused) {
  EXPECT_EQ(chat_refuses(chat_body(kBegun, R"("continue_final_message":true,"add_generation_prompt":true)")),
            "add_generation_prompt");
  EXPECT_EQ(chat_refuses(chat_body(R"([{"role":"user","content":"Q"}])", kContinue)), "messages[0].role");
  EXPECT_EQ(chat_refuses(chat_body(R"([{"role":"assistant","content":"A","prefix":true},{"role":"user"}])")),
            "messages[0].prefix");
  EXPECT_EQ(
      chat_refuses(chat_body(
          R"([{"role":"assistant","content":"A","tool_calls":[{"function":{"name":"f"}}]}])", kContinue)),
      "messages[0].tool_calls");
  EXPECT_EQ(chat_refuses(chat_body(kBegun, R"("continue_final_message":"yes")")), "continue_final_message");
}

TEST(RequestMessages, TheGenerationPromptCanBeLeftOut) {
  EXPECT_TRUE(chat(ask()).conversation.add_generation_prompt);
  EXPECT_FALSE(chat(ask(R"("add_generation_prompt":false)")).conversation.add_generation_prompt);
}

}  // namespace
}  // namespace odmoe::server
