// Answers that are gone on with, and calls whose arguments are no JSON, in every family.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/tokenizer/jinja_chat_template.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

std::string read(const std::string& name) {
  const auto path = std::filesystem::path(ODMOE_SOURCE_DIR) / "tests/data/templates" / name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

ChatText render_text(const std::string& name, const Conversation& conversation) {
  auto text =
      make_chat_template({.source = read(name)}, {{"bos_token", ""}, {"eos_token", "<｜end▁of▁sentence｜>"}})
          .value()
          ->render(conversation);
  EXPECT_TRUE(text.has_value()) << name << ": " << text.error().message;
  return text.value_or(ChatText());
}
std::string render(const std::string& name, const Conversation& conversation) {
  return render_text(name, conversation).text;
}

const std::vector<std::string>& all_templates() {
  static const std::vector<std::string> names = {"demo.jinja",          "qwen2.jinja",
                                                 "qwen2.5.jinja",       "qwen3.jinja",
                                                 "kimi-k2.jinja",       "kimi-k2-instruct.jinja",
                                                 "kimi-k2.5.jinja",     "kimi-k2-thinking.jinja",
                                                 "deepseek-v2.jinja",   "deepseek-v3.jinja",
                                                 "deepseek-r1.jinja",   "deepseek-r1-0528.jinja",
                                                 "deepseek-v3.1.jinja", "deepseek-v3.1-original.jinja",
                                                 "deepseek-v3.2.jinja"};
  return names;
}

// What Transformers' continue_final_message does: the template's text, cut behind the last message's content.
TEST(ChatContinuation, AnAnswerIsTheTemplatesUpToWhereItEnds) {
  int n_compared = 0;
  for (const Json& golden : Json::parse(read("goldens.json"))) {
    const Json& last = golden["messages"].back();
    const std::string content = last["content"].is_string() ? last["content"].get<std::string>() : "";
    if (golden["add_generation_prompt"] == true || last["role"] != "assistant" || content.empty() ||
        content.contains("think>") || last.contains("reasoning_content") || last.contains("tool_calls")) {
      continue;
    }
    const auto calls = [](const Json& message) { return message.contains("tool_calls"); };
    if (std::ranges::any_of(golden["messages"], calls)) continue;
    Conversation conversation{.continuation = Continuation::kAnswer};
    for (const Json& message : golden["messages"]) {
      conversation.turns.push_back({.role = message["role"], .content = message["content"]});
    }
    for (const Json& tool : golden.value("tools", Json::array())) conversation.tools.push_back(tool.dump());
    if (golden.contains("thinking")) conversation.thinking = golden["thinking"].get<bool>();
    const std::string text = golden["text"];
    const size_t at = text.rfind(content + "<");  // the mark of its end
    ASSERT_NE(at, std::string::npos) << golden.dump();
    EXPECT_EQ(render(golden["template"], conversation), text.substr(0, at + content.size())) << golden.dump();
    ++n_compared;
  }
  EXPECT_GT(n_compared, 40);
}

TEST(ChatContinuation, AThoughtIsLeftOpen) {
  for (const std::string& name : all_templates()) {
    const std::string text = render(
        name, {.turns = {{"user", "Q"}, {.role = "assistant", .content = "", .reasoning = "Let me see"}},
               .continuation = Continuation::kThought});
    EXPECT_THAT(text, HasSubstr("<think>")) << name;
    EXPECT_THAT(text, EndsWith("Let me see")) << name;
    EXPECT_THAT(text, Not(HasSubstr("</think>"))) << name;
  }
}

TEST(ChatContinuation, AnAnswerComesBehindItsThought) {
  for (const std::string& name : all_templates()) {
    const std::string text =
        render(name, {.turns = {{"user", "Q"}, {.role = "assistant", .content = "So", .reasoning = "Hm"}},
                      .continuation = Continuation::kAnswer});
    EXPECT_THAT(text, EndsWith("So")) << name;
    const bool thinks = name.contains("-r1") || name.contains("-v3.1") || name.contains("-v3.2");
    if (name.starts_with("qwen3") || thinks || name.contains("k2.5") || name.contains("thinking")) {
      EXPECT_THAT(text, ::testing::ContainsRegex("<think>\n?Hm\n?</think>\n*So")) << name;
    }
  }
}

TEST(ChatContinuation, WhatWasSaidIsNoMarkup) {
  const ChatText text = render_text("qwen3.jinja", {.turns = {{"user", "Q"}, {"assistant", "A<|im_end|>"}},
                                                    .continuation = Continuation::kAnswer});
  ASSERT_FALSE(text.said.empty());
  EXPECT_EQ(text.said.back().end, text.text.size());
  EXPECT_EQ(text.text.substr(text.said.back().begin), "A<|im_end|>");
}

TEST(ChatTemplate, ArgumentsThatAreNoJsonAreShownAsTheyAre) {
  const std::string cut = R"({"city": "Ver)";
  ChatTurn turn{.role = "assistant", .content = ""};
  turn.tool_calls.push_back({.id = "c", .name = "f", .arguments = cut, .arguments_are_json = false});
  for (const std::string& name : all_templates()) {
    if (name == "deepseek-v2.jinja" || name == "deepseek-r1-0528.jinja") continue;  // have no words for calls
    const std::string text = render(name, {.turns = {{"user", "Q"}, turn, {.role = "tool", .content = "R"}}});
    EXPECT_THAT(text, HasSubstr(cut)) << name;
    EXPECT_THAT(text, Not(HasSubstr("\\\""))) << name << ": quoted";
  }
  // JSON, but no object: a list has no names for V3.2's parameters.
  turn.tool_calls[0] = {.id = "c", .name = "f", .arguments = "[1, 2]"};
  EXPECT_THAT(render("deepseek-v3.2.jinja", {.turns = {{"user", "Q"}, turn}}), HasSubstr("[1, 2]"));
  turn.tool_calls[0].arguments = "{ }";
  EXPECT_THAT(render("deepseek-v3.2.jinja", {.turns = {{"user", "Q"}, turn}}), Not(HasSubstr("{ }")));
}

}  // namespace
}  // namespace odmoe
