// The renderers of the families, one file each, and what they share.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "model/tokenizer/chat_template.h"
#include "odmoe/chat.h"

namespace odmoe {

ChatText render_chatml(std::string_view jinja, const Conversation& conversation);
ChatText render_kimi_k2(std::string_view jinja, const Conversation& conversation);
ChatText render_deepseek_v2(const Conversation& conversation);
ChatText render_deepseek_v3(std::string_view jinja, const Conversation& conversation);

// What the model is to go on with, if it is this turn.
inline Continuation continuation_of(const Conversation& conversation, const ChatTurn& turn) {
  return &turn == &conversation.turns.back() ? conversation.continuation : Continuation::kNone;
}
inline bool wants_generation_prompt(const Conversation& conversation) {
  return conversation.add_generation_prompt && conversation.continuation == Continuation::kNone;
}
// A call's arguments as templates show them: as Python writes JSON, and as they are where they are none.
std::string shown_arguments(const ChatToolCall& call);

// Of the DeepSeek family, by the version that the template is of.
ToolCallSyntax deepseek_tool_syntax(std::string_view jinja);

// DeepSeek-V3.2's words for tools and calls.
void declare_dsml_tools(const Conversation& conversation, ChatText* out);
void append_dsml_calls(const ChatTurn& turn, ChatText* out);

// Jinja source with the escapes of its string literals (\n, \', \", \\) resolved, so that text can be
// searched for whether the template writes it in a literal or as it is.
std::string resolve_escapes(std::string_view jinja);

// The constant text between `begin` and `end`, first place where there is one; constant: no expression and no
// statement in between, nor the end of a literal.
struct ConstantText {
  std::string_view text;
  size_t end;  // where `end` begins
};
std::optional<ConstantText> find_constant(std::string_view jinja, std::string_view begin,
                                          std::string_view end);

// What follows the last `marker` in `text`; all of it when there is none.
std::string_view after_last(std::string_view text, std::string_view marker);

}  // namespace odmoe
