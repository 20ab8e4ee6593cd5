#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kTools =
    R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}])";

ToolChoice choice(const char* json) {
  return chat(ask(odmoe::format(R"({},"tool_choice":{})", kTools, json))).tool_choice;
}
std::string tools_refuse(const char* json) {
  return chat_refuses(ask(odmoe::format(R"({},"tool_choice":{})", kTools, json)));
}

TEST(RequestTools, WithoutToolsThereIsNothingToChoose) {
  for (const char* tools : {"", R"("tools":[],)", R"("tools":null,)"}) {
    for (const char* word : {R"("auto")", R"("none")", "null", R"({"type":"auto"})"}) {
      EXPECT_EQ(chat_refuses(ask(odmoe::format(R"({}"tool_choice":{})", tools, word))), "") << tools << word;
    }
    EXPECT_EQ(chat_refuses(ask(odmoe::format(R"({}"tool_choice":"required")", tools))), "tool_choice");
  }
  EXPECT_EQ(chat_refuses(ask(R"("tools":[],"parallel_tool_calls":true)")), "");
}

TEST(RequestTools, AChoiceIsAWordOrAnObject) {
  EXPECT_EQ(choice("null").kind, ToolChoice::Kind::kAuto);
  EXPECT_EQ(choice(R"("none")").kind, ToolChoice::Kind::kNone);
  EXPECT_EQ(choice(R"("any")").kind, ToolChoice::Kind::kRequired);
  EXPECT_EQ(choice(R"({"type":"required"})").kind, ToolChoice::Kind::kRequired);
  for (const char* named :
       {R"({"type":"function","function":{"name":"g"}})", R"({"type":"function","name":"g"})"}) {
    EXPECT_EQ(choice(named).kind, ToolChoice::Kind::kNamed);
    EXPECT_EQ(choice(named).name, "g");
  }
  EXPECT_EQ(tools_refuse(R"({"type":"custom","custom":{"name":"g"}})"), "tool_choice");
  EXPECT_EQ(tools_refuse(R"({"type":"function","function":{"name":"h"}})"), "tool_choice");
  EXPECT_EQ(tools_refuse("5"), "tool_choice");
}

TEST(RequestTools, ToolsThatAreNotAllowedAreNotShown) {
  const auto request =
      chat(ask(std::string(kTools) + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":
      {"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}})"));
  EXPECT_EQ(request.tool_choice.kind, ToolChoice::Kind::kRequired);
  ASSERT_EQ(request.tools.size(), 1);
  EXPECT_EQ(request.tools[0].name, "g");
  ASSERT_EQ(request.conversation.tools.size(), 1);
  EXPECT_THAT(request.conversation.tools[0], HasSubstr(R"("g")"));
  const auto flat =
      chat(ask(std::string(kTools) +
               R"(,"tool_choice":{"type":"allowed_tools","tools":[{"type":"function","name":"f"}]})"));
  EXPECT_EQ(flat.tool_choice.kind, ToolChoice::Kind::kAuto);
  EXPECT_EQ(flat.tools.at(0).name, "f");
  EXPECT_EQ(tools_refuse(R"({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}})"),
            "tool_choice.allowed_tools.tools");
}

TEST(RequestTools, ATypeMayBeMissingAndTheFunctionFlat) {
  const auto request = chat(ask(R"("tools":[{"function":{"name":"f","parameters":{"type":"object"}}},
      {"type":"function","name":"g","description":"d","parameters":{"type":"object"},"strict":true}])"));
  ASSERT_EQ(request.tools.size(), 2);
  EXPECT_EQ(request.tools[1].name, "g");
  EXPECT_EQ(request.tools[1].parameters["type"], "object");
  const Json shown = Json::parse(request.conversation.tools[1]);
  EXPECT_EQ(shown["type"], "function");
  EXPECT_EQ(shown["function"]["name"], "g");
}

TEST(RequestTools, WhatIsForTheServerIsNotShownToTheModel) {
  const auto request = chat(
      ask(R"("tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}])"));
  EXPECT_THAT(request.conversation.tools.at(0), Not(HasSubstr("cache_control")));
}

TEST(RequestTools, OtherKindsOfToolsAreRefusedByName) {
  for (const char* type : {"custom", "web_search", "code_interpreter", "mcp"}) {
    const auto request = read_chat(ask(odmoe::format(R"("tools":[{{"type":"{}"}}])", type)));
    ASSERT_FALSE(request.has_value());
    EXPECT_EQ(request.error().param, "tools[0].type");
    EXPECT_THAT(request.error().message, HasSubstr(type));
  }
}

TEST(RequestTools, ThinkingIsSwitchedByManyNames) {
  const auto thinking = [](const char* more) { return chat(ask(more)).conversation.thinking; };
  for (const char* off :
       {R"("enable_thinking":false)", R"("think":false)", R"("thinking":{"type":"disabled"})",
        R"("thinking":false)", R"("reasoning_effort":"none")", R"("reasoning":{"enabled":false})",
        R"("reasoning":{"effort":"none"})", R"("reasoning_budget":0)",
        R"("chat_template_kwargs":{"enable_thinking":false})"}) {
    EXPECT_EQ(thinking(off), false) << off;
  }
  for (const char* on :
       {R"("enable_thinking":true)", R"("think":true)",
        R"("thinking":{"type":"enabled","budget_tokens":1000})", R"("reasoning":{"enabled":true})"}) {
    EXPECT_EQ(thinking(on), true) << on;
  }
  for (const char* open : {R"("reasoning_effort":"high")", R"("think":"low")", R"("reasoning_budget":-1)",
                           R"("reasoning":{})", R"("reasoning_effort":null)"}) {
    EXPECT_EQ(thinking(open), std::nullopt) << open;
  }
  EXPECT_EQ(chat_refuses(ask(R"("reasoning":{"exclude":true})")), "reasoning.exclude");
  EXPECT_EQ(chat_refuses(ask(R"("reasoning_budget":-2)")), "reasoning_budget");
}

}  // namespace
}  // namespace odmoe::server
