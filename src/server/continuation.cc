#include "server/continuation.h"

#include <algorithm>
#include <string_view>

#include "grammar/token_mask.h"

namespace odmoe::server {

namespace {

// What the prompt ends with, as far as it matters here.
std::string tail_of(const Engine& engine, std::span<const Token> prompt) {
  std::string tail;
  for (const Token token : prompt.last(std::min<size_t>(prompt.size(), 8))) {
    tail += engine.token_bytes(token, true);
  }
  return tail;
}

bool ends_in_thought(std::string_view tail) {
  while (tail.ends_with('\n')) tail.remove_suffix(1);
  return tail.ends_with("<think>");
}

}  // namespace

AssistantText::Start start_of(const Engine& engine, const Conversation& conversation,
                              std::span<const Token> prompt) {
  using Start = AssistantText::Start;
  switch (conversation.continuation) {
    case Continuation::kThought:
      return Start::kThought;
    case Continuation::kAnswer:
      return Start::kContent;
    case Continuation::kNone:
      break;
  }
  return ends_in_thought(tail_of(engine, prompt)) ? Start::kThought : Start::kAnswer;
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
  if (thought) return bad_request(param, "{}: a continued thought cannot be held to {}", param, wish);
  const bool fits = must_call ? last.content.empty() : grammar::may_begin(grammar, last.content);
  if (!fits) return bad_request(param, "{} does not begin as {} wants it", param, wish);
  return last.content;
}

}  // namespace odmoe::server
