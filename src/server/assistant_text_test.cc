#include "server/assistant_text.h"

#include <gtest/gtest.h>

#include <random>

namespace odmoe::server {
namespace {

struct Whole {
  std::string reasoning, content;
  std::vector<ChatToolCall> calls;
};

// The text in pieces of all sizes: what comes out must not depend on them.
Whole read(std::optional<ToolCallSyntax> syntax, std::string_view text,
           AssistantText::Start start = AssistantText::Start::kAnswer) {
  std::optional<Whole> first;
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    AssistantText parser(syntax, start, "call_");
    Whole whole;
    const auto take = [&](AssistantDelta delta) {
      whole.reasoning += delta.reasoning;
      whole.content += delta.content;
      for (auto& call : delta.calls) whole.calls.push_back(std::move(call));
    };
    for (size_t at = 0; at < text.size();) {
      const size_t n = round == 0 ? text.size() : 1 + random() % (round + 1U);
      take(parser.push(text.substr(at, n)));
      at += n;
    }
    take(parser.finish());
    if (!first) first = whole;
    EXPECT_EQ(whole.reasoning, first->reasoning);
    EXPECT_EQ(whole.content, first->content);
    EXPECT_EQ(whole.calls.size(), first->calls.size());
  }
  return *first;
}

TEST(AssistantText, PlainTextIsContent) {
  EXPECT_EQ(read({}, " Hello <tool_call> there\n").content, " Hello <tool_call> there\n");
  EXPECT_EQ(read(ToolCallSyntax::kHermes, "Hello, a < b <too\n\n").content, "Hello, a < b <too\n\n");
}

TEST(AssistantText, CallsOfEverySyntaxAreFound) {
  const auto check = [](ToolCallSyntax syntax, std::string_view text, const char* id = nullptr) {
    const Whole whole = read(syntax, text);
    EXPECT_EQ(whole.content, "Let me look.") << text;
    ASSERT_EQ(whole.calls.size(), 2) << text;
    EXPECT_EQ(whole.calls[0].name, "get_weather");
    EXPECT_EQ(whole.calls[0].arguments, R"({"city":"Köln"})");
    EXPECT_EQ(whole.calls[1].name, "clock");
    EXPECT_EQ(whole.calls[1].arguments, "{}");
    EXPECT_EQ(whole.calls[0].id, id != nullptr ? id : "call_0");
  };
  check(ToolCallSyntax::kHermes,
        "Let me look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": "
        "\"Köln\"}}\n</tool_call>\n"
        "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>");
  check(ToolCallSyntax::kKimi,
        "Let me look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        "<|tool_call_argument_begin|>{\"city\":\"Köln\"}<|tool_call_end|><|tool_call_begin|>functions.clock:1"
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        "functions.get_weather:0");
  check(
      ToolCallSyntax::kDeepSeekV31,
      "Let me look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\":\"Köln\"}"
      "<｜tool▁call▁end｜><｜tool▁call▁begin｜>clock<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  check(ToolCallSyntax::kDeepSeekV3,
        "Let me look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        "{\"city\":\"Köln\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>clock\n```"
        "json\n{}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>");
  check(ToolCallSyntax::kDeepSeekV32,
        "Let me look.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter "
        "name=\"city\" "
        "string=\"true\">Köln</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke "
        "name=\"clock\">\n</｜DSML｜invoke>\n"
        "</｜DSML｜function_calls>");
}

TEST(AssistantText, DsmlArgumentsKeepTheirTypes) {
  const auto call =
      parse_tool_call(ToolCallSyntax::kDeepSeekV32,
                      " name=\"f\">\n<｜DSML｜parameter name=\"n\" string=\"false\">3</｜DSML｜parameter>\n"
                      "<｜DSML｜parameter name=\"s\" string=\"true\">3</｜DSML｜parameter>\n"
                      "<｜DSML｜parameter name=\"o\" string=\"false\">{\"a\": [1]}</｜DSML｜parameter>\n");
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(call->arguments, R"({"n":3,"s":"3","o":{"a":[1]}})");
}

TEST(AssistantText, NothingIsLostOfACallThatIsNone) {
  EXPECT_EQ(read(ToolCallSyntax::kHermes, "<tool_call>nonsense</tool_call>").content,
            "<tool_call>nonsense</tool_call>");
  const Whole cut = read(ToolCallSyntax::kHermes, "a<tool_call>{\"name\": \"x\", \"argum");
  EXPECT_EQ(cut.content, "a<tool_call>{\"name\": \"x\", \"argum");
  EXPECT_TRUE(cut.calls.empty());
}

TEST(AssistantText, ThoughtsAreKeptApart) {
  for (const bool inside : {false, true}) {
    const Whole whole = read(ToolCallSyntax::kHermes,
                             inside ? "I wonder.\n</think>\n\nYes." : "<think>I wonder.\n</think>\n\nYes.",
                             inside ? AssistantText::Start::kThought : AssistantText::Start::kAnswer);
    EXPECT_EQ(whole.reasoning, "I wonder.\n");
    EXPECT_EQ(whole.content, "Yes.");
  }
  EXPECT_EQ(read({}, "never ends", AssistantText::Start::kThought).reasoning, "never ends");
  EXPECT_EQ(read({}, "<thin").content, "<thin");
}

}  // namespace
}  // namespace odmoe::server
