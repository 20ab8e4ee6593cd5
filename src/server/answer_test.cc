#include "server/answer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "server/output/output_format.h"

namespace odmoe::server {
namespace {

Answer answer_of(bool stream, bool kept = true) {
  AnswerOptions options{.stream = stream, .kept = kept, .prompt_of_choice = {0}, .begun = {{}}};
  options.chat =
      ChatAnswerOptions{.format = find_output_format("hermes"), .calls = true, .tools = nullptr, .id = "x"};
  return Answer(std::move(options));
}

ChannelEvent said(const std::string& text, int32_t tokens) { return {.text = text, .n_token = tokens}; }
ChannelEvent ended() { return {.end = GenerationEnd{.ending = Ending::kEndToken, .generated_tokens = 12}}; }

TEST(Answer, TokensOfThoughtsAreCountedWithTheMarkBeforeThem) {
  for (const bool stream : {false, true}) {
    Answer answer = answer_of(stream);
    answer.take(said("<think>", 1));
    answer.take(said("I wonder", 3));
    answer.take(said(".", 1));
    answer.take(said("</think>", 1));
    answer.take(said("Yes.", 4));
    answer.take(ended());
    EXPECT_TRUE(answer.finished());
    EXPECT_EQ(answer.usage().thought, 5) << "the mark behind them is of what follows";
  }
}

TEST(Answer, WhatComesBehindTheOneCallThatWasWantedIsNotCounted) {
  for (const Ending ending : {Ending::kCancelled, Ending::kEndToken, Ending::kLength}) {
    AnswerOptions options{.prompt_of_choice = {0}, .begun = {{}}};
    options.chat = ChatAnswerOptions{
        .format = find_output_format("hermes"), .calls = true, .tools = nullptr, .id = "x", .one_call = true};
    Answer answer(std::move(options));
    const auto take = [&](const std::string& text, int32_t tokens) {
      ChannelEvent event = said(text, tokens);
      event.tokens.resize(static_cast<size_t>(tokens));
      answer.take(event);
    };
    take("<tool_call>{\"name\":\"f\",\"arguments\":{}}", 5);
    ASSERT_TRUE(answer.enough(0));
    take("</tool_call>", 1);
    take(" and", 1);
    answer.take({.n_token = 5, .end = GenerationEnd{.ending = ending, .generated_tokens = 12}});
    EXPECT_FALSE(answer.error());
    EXPECT_EQ(answer.usage().generated, 5) << "the rest is what came until it was ended";
    EXPECT_EQ(answer.choices()[0].finish, AnswerFinish::kCalls);
    EXPECT_EQ(answer.choices()[0].tokens.size(), 5U);
  }
}

TEST(Answer, WithoutAThoughtNoneAreCounted) {
  Answer answer = answer_of(true);
  answer.take(said("Yes.", 4));
  answer.take(said(R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)", 9));
  answer.take(ended());
  EXPECT_EQ(answer.usage().thought, 0);
}

TEST(Answer, AWholeKnowsTheOrderInWhichThingsWereSaid) {
  Answer answer = answer_of(false);
  answer.take(said("<think>Hm</think>", 3));
  answer.take(said("a", 1));
  answer.take(said(R"(<tool_call>{"name": "f", "arguments": {}}</tool_call>)", 9));
  answer.take(said("b", 1));
  answer.take(ended());
  const auto& order = answer.choices()[0].order;
  ASSERT_EQ(order.size(), 4);
  EXPECT_EQ(order[0].kind, AnswerPart::Kind::kReasoning);
  EXPECT_EQ(order[1].kind, AnswerPart::Kind::kContent);
  EXPECT_EQ(order[2].kind, AnswerPart::Kind::kCalls);
  EXPECT_EQ(order[3].kind, AnswerPart::Kind::kContent);
  EXPECT_EQ(order[3].end, answer.choices()[0].content.size());
}

TEST(Answer, AStreamThatItsWriterKeepsTakesAsMuchAsAWhole) {
  const auto account = std::make_shared<RequestMemory>(1 << 20);
  const auto taken = [&](bool stream, bool kept) {
    AnswerOptions options{.stream = stream, .kept = kept, .prompt_of_choice = {0}, .begun = {{}}};
    options.memory = RequestMemory::Share(account);
    Answer answer(std::move(options));
    answer.take(said(std::string(1000, 'x'), 100));
    return account->taken();
  };
  EXPECT_EQ(taken(true, true), taken(false, true));
  EXPECT_LT(taken(true, false), taken(true, true));
}

}  // namespace
}  // namespace odmoe::server
