// What an assistant writes, taken apart as it comes: thoughts, content and calls of tools.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/chat.h"

namespace odmoe::server {

struct AssistantDelta {
  std::string reasoning;
  std::string content;
  std::vector<ChatToolCall> calls;  // complete ones
  bool empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

// One owner.  Nothing is lost: a call that does not parse, or does not end, comes as content.
class AssistantText {
 public:
  // Where the prompt ended: before the answer, which may begin with a thought, inside of a thought, or in
  // what is said.
  enum class Start { kAnswer, kThought, kContent };
  // `syntax`: how calls are written, nothing: they are not looked for.  `id_prefix` makes the ids of calls
  // whose syntax has none.
  AssistantText(std::optional<ToolCallSyntax> syntax, Start start, std::string id_prefix);

  AssistantDelta push(std::string_view text);
  AssistantDelta finish();

 private:
  enum class State { kStart, kThought, kContent, kCall };
  void read(AssistantDelta& delta, bool last);
  bool read_start(bool last);
  bool read_thought(AssistantDelta& delta, bool last);
  bool read_content(AssistantDelta& delta, bool last);
  bool read_call(AssistantDelta& delta, bool last);
  void add_content(std::string_view text, AssistantDelta& delta);

  std::optional<ToolCallSyntax> syntax_;
  std::string id_prefix_;
  State state_;
  std::string pending_;
  size_t seen_ = 0;     // of pending_, within a call: has no end of it
  std::string spaces_;  // content that is not told until more follows: calls stand behind empty lines
  int n_call_ = 0;
  bool after_thought_ = false;
};

// The text between a call's marks as a call; nothing when it is not a call.
std::optional<ChatToolCall> parse_tool_call(ToolCallSyntax syntax, std::string_view body);

// The marks of a syntax.
struct CallMarks {
  std::string_view open, close;            // of a call
  std::string_view list_open, list_close;  // of all; empty: none
};
CallMarks call_marks(ToolCallSyntax syntax);

}  // namespace odmoe::server
