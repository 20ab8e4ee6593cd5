// ChatML: Qwen1.5 to Qwen3, the demo models and many others.
#include <span>

#include "model/tokenizer/chat_families.h"
#include "model/tokenizer/python_json.h"

namespace odmoe {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kTurnEnd = "<|im_end|>";
constexpr std::string_view kThinkEnd = "</think>";

std::string_view strip_left(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

constexpr std::string_view kToolsHead =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\n<tools>";
constexpr std::string_view kToolsTail =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
    "<args-json-object>}\n</tool_call>";

void open_turn(std::string_view role, ChatText* out) {
  *out += kStart;
  out->say(role);
  *out += "\n";
}

void close_turn(ChatText* out) {
  *out += kTurnEnd;
  *out += "\n";
}

void append_system(std::string_view jinja, const Conversation& conversation, bool given, ChatText* out) {
  const auto fallback = find_constant(jinja, "<|im_start|>system\n", kTurnEnd);
  const std::vector<std::string>& tools = conversation.tools;
  if (!given && !fallback && tools.empty()) return;
  open_turn("system", out);
  const bool speaks = given || fallback.has_value();
  if (given) {
    out->say(conversation.turns[0].content);
  } else if (fallback) {
    *out += fallback->text;
  }
  if (!tools.empty()) {
    if (speaks) *out += "\n\n";
    *out += kToolsHead;
    for (const std::string& tool : tools) {
      *out += "\n";
      out->say(python_json(tool));
    }
    *out += kToolsTail;
  }
  close_turn(out);
}

void append_calls(const ChatTurn& turn, bool on_new_line, ChatText* out) {
  for (const ChatToolCall& call : turn.tool_calls) {
    if (on_new_line) *out += "\n";
    on_new_line = true;
    *out += "<tool_call>\n{\"name\": \"";
    out->say(call.name);
    *out += "\", \"arguments\": ";
    out->say(shown_arguments(call));
    *out += "}\n</tool_call>";
  }
}

// The last message that the user wrote, not a tool; past the end when there is none.
size_t last_query(std::span<const ChatTurn> messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const ChatTurn& message = messages[i];
    const bool tool =
        message.content.starts_with("<tool_response>") && message.content.ends_with("</tool_response>");
    if (message.role == "user" && !tool) return i;
  }
  return messages.size();
}

// Qwen3: earlier answers lose their thinking; what answers the last question keeps it, or is shown to have
// none.
void append_answer(const ChatTurn& message, bool after_query, bool last, ChatText* out) {
  std::string_view answer = message.content;
  std::string_view thinking;
  const size_t end = answer.find(kThinkEnd);
  if (message.reasoning) {
    thinking = *message.reasoning;
  } else if (end != std::string_view::npos) {
    thinking = strip_left(after_last(strip_right(answer.substr(0, end)), "<think>"));
    answer = strip_left(after_last(answer, kThinkEnd));
  }
  open_turn(message.role, out);
  if (!after_query || (!last && thinking.empty())) {
    out->say(answer);
  } else {
    *out += "<think>\n";
    out->say(strip_right(strip_left(thinking)));
    *out += "\n</think>\n\n";
    out->say(strip_left(answer));
  }
  append_calls(message, !answer.empty(), out);
  close_turn(out);
}

// The answer that the model goes on with.  `shows_thoughts`: the template has a thought before this answer,
// if only an empty one.
void append_begun(const ChatTurn& message, Continuation continuation, bool shows_thoughts, ChatText* out) {
  open_turn(message.role, out);
  const std::string_view thinking = message.reasoning ? std::string_view(*message.reasoning) : "";
  if (continuation == Continuation::kThought) {
    *out += "<think>\n";
    out->say(strip_left(thinking));
    return;
  }
  if (!shows_thoughts && thinking.empty()) {
    out->say(message.content);
    return;
  }
  *out += "<think>\n";
  out->say(strip_right(strip_left(thinking)));
  *out += "\n</think>\n\n";
  out->say(strip_left(message.content));
}

// Results of tools that follow one another share a turn of the user's.
void append_tool_result(std::span<const ChatTurn> messages, size_t i, ChatText* out) {
  if (i == 0 || messages[i - 1].role != "tool") *out += "<|im_start|>user";
  *out += "\n<tool_response>\n";
  out->say(messages[i].content);
  *out += "\n</tool_response>";
  if (i + 1 == messages.size() || messages[i + 1].role != "tool") close_turn(out);
}

}  // namespace

ChatText render_chatml(std::string_view jinja, const Conversation& conversation) {
  const std::span<const ChatTurn> messages = conversation.turns;
  ChatText out;
  const bool thinks = jinja.contains("last_query_index");
  // A template that knows no tools shows every role by its name.
  const bool knows_tools = jinja.empty() || jinja.contains("<tool_response>") || !conversation.tools.empty();
  const bool system_first = !messages.empty() && messages[0].role == "system";
  if (!messages.empty()) append_system(jinja, conversation, system_first, &out);
  const size_t query = thinks ? last_query(messages) : 0;
  for (size_t i = system_first ? 1 : 0; i < messages.size(); ++i) {
    const ChatTurn& message = messages[i];
    if (const Continuation how = continuation_of(conversation, message); how != Continuation::kNone) {
      append_begun(message, how, thinks && i > query, &out);
    } else if (message.role == "tool" && knows_tools) {
      append_tool_result(messages, i, &out);
    } else if (thinks && message.role == "assistant") {
      append_answer(message, i > query, i + 1 == messages.size(), &out);
    } else {
      open_turn(message.role, &out);
      out.say(message.content);
      append_calls(message, !message.content.empty(), &out);
      close_turn(&out);
    }
  }
  if (wants_generation_prompt(conversation)) {
    // Models that always think; others have only the empty thought of the switch.
    const bool always = jinja.contains("<|im_start|>assistant\n<think>\n'");
    out += always ? "<|im_start|>assistant\n<think>\n" : "<|im_start|>assistant\n";
    const bool has_switch = jinja.contains("enable_thinking is false");
    if (has_switch && conversation.thinking == false) out += "<think>\n\n</think>\n\n";
  }
  return out;
}

}  // namespace odmoe
