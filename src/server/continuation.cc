#include "server/continuation.h"

#include <algorithm>
#include <string_view>

#include "grammar/token_mask.h"

namespace odmoe::server {

namespace {

// What the prompt ends with, as far as it matters here, without the white space behind it.
std::string tail_of(const Engine& engine, std::span<const Token> prompt) {
  constexpr size_t kMostTokens = 48, kEnoughBytes = 128;
  std::string tail;
  for (size_t i = 0; i < std::min(prompt.size(), kMostTokens) && tail.size() < kEnoughBytes; ++i) {
    tail.insert(0, engine.token_bytes(prompt[prompt.size() - 1 - i], /*special=*/true));
  }
  tail.erase(tail.find_last_not_of(" \t\r\n") + 1);
  return tail;
}

bool ends_with(std::string_view tail, const Marks& marks) {
  return std::ranges::any_of(marks, [&](std::string_view mark) {
    mark = mark.substr(0, mark.find_last_not_of(" \t\r\n") + 1);
    return !mark.empty() && tail.ends_with(mark);
  });
}

}  // namespace

AnswerPlace place_of_answer(const Engine& engine, const OutputFormat& format,
                            const Conversation& conversation, std::span<const Token> prompt) {
  switch (conversation.continuation) {
    case Continuation::kThought:
      return {.start = OutputStart::kThought};
    case Continuation::kAnswer:
      return {.start = OutputStart::kContent};
    case Continuation::kNone:
      break;
  }
  const std::string tail = tail_of(engine, prompt);
  if (ends_with(tail, format.thought_open)) return {.start = OutputStart::kThought};
  // Not where the mark is that of any message.
  if (ends_with(tail, format.thought_close) && !ends_with(tail, format.content_close)) {
    return {.thought_ended = true};
  }
  if (ends_with(tail, format.content_open)) return {.start = OutputStart::kContent};
  return {};
}

ApiResult<std::string> begun_text(const ChatRequest& request,
                                  const std::shared_ptr<const grammar::Grammar>& grammar) {
  const Conversation& conversation = request.conversation;
  if (conversation.continuation == Continuation::kNone) return std::string();
  const ChatTurn& last = conversation.turns.back();
  const bool thought = conversation.continuation == Continuation::kThought;
  if (grammar == nullptr) return thought ? last.reasoning.value_or("") : last.content;
  const auto kind = request.tool_choice.kind;
  const bool must_call = kind == ToolChoice::Kind::kRequired || kind == ToolChoice::Kind::kNamed;
  const std::string wish = must_call ? "tool_choice" : request.form.param;
  const std::string param = odmoe::format("messages[{}]", conversation.turns.size() - 1);
  if (thought) return bad_request(param, "the last message: a continued thought cannot be held to {}", wish);
  const bool fits = must_call ? last.content.empty() : grammar::may_begin(grammar, last.content);
  if (!fits) return bad_request(param, "the last message does not begin as {} wants it", wish);
  return last.content;
}

}  // namespace odmoe::server
