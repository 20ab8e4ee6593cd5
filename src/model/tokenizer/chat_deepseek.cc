// DeepSeek-V2 and, with markers that are tokens, V2.5, V3, R1, V3.1 and V3.2.
#include <span>

#include "model/tokenizer/chat_families.h"
#include "model/tokenizer/python_json.h"

namespace odmoe {
namespace {

constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
constexpr std::string_view kSentenceEnd = "<｜end▁of▁sentence｜>";
constexpr std::string_view kThoughtBegin = "<think>";
constexpr std::string_view kThoughtEnd = "</think>";
constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";

// What the templates of the V3 family differ in.
struct Details {
  enum class Marker {
    kWithAnswer,    // V3, R1: every answer begins with the assistant's marker
    kWithQuestion,  // R1-0528, V3-0324: every question ends with it
    kBetween,       // V3.1, V3.2: an answer that follows a question begins with it
  };
  enum class Thoughts { kKept, kCutAtFirstEnd, kCutAtLastEnd };

  Marker marker = Marker::kWithAnswer;
  Thoughts thoughts = Thoughts::kKept;
  bool joins_system_prompts = true;  // else the last one counts
  bool dsml = false;                 // V3.2, which has tools of its own
  std::string_view before_answer;    // behind the marker
  std::string_view before_generation;
};

Details read_details(std::string_view jinja) {
  Details details;
  if (jinja.contains("pending_asst_marker")) {
    details.marker = Details::Marker::kBetween;
    details.dsml = true;
    details.before_answer = kThoughtEnd;
    details.before_generation =
        jinja.contains("thinking_start_token + thinking_end_token") ? "<think></think>" : kThoughtEnd;
  } else if (jinja.contains("thinking is defined")) {
    details.marker = Details::Marker::kBetween;
    details.before_answer = jinja.contains("<think></think>") ? "<think></think>" : kThoughtEnd;
    details.before_generation = details.before_answer;
  } else if (jinja.contains("+ '<｜Assistant｜>'}}")) {
    details.marker = Details::Marker::kWithQuestion;
  } else if (jinja.contains("'<｜Assistant｜><think>\n'")) {
    details.before_generation = "<think>\n";
  }
  if (jinja.contains("split('</think>')[-1]")) details.thoughts = Details::Thoughts::kCutAtLastEnd;
  if (jinja.contains("split('</think>', 1)[1]")) details.thoughts = Details::Thoughts::kCutAtFirstEnd;
  details.joins_system_prompts = jinja.empty() || jinja.contains("ns.system_prompt + ");
  return details;
}

ChatText system_prompt(std::span<const ChatTurn> turns, bool join) {
  ChatText prompt;
  bool first = true;
  for (const ChatTurn& turn : turns) {
    if (turn.role != "system") continue;
    if (!join) prompt = {};
    if (join && !first) prompt += "\n\n";
    prompt.say(turn.content);
    first = false;
  }
  return prompt;
}

std::string_view without_thoughts(std::string_view content, Details::Thoughts thoughts) {
  if (thoughts == Details::Thoughts::kCutAtLastEnd) return after_last(content, kThoughtEnd);
  if (thoughts == Details::Thoughts::kCutAtFirstEnd) {
    const size_t at = content.find(kThoughtEnd);
    if (at != std::string_view::npos) content.remove_prefix(at + kThoughtEnd.size());
  }
  return content;
}

// The published templates of V3 to V3.1 leave the tools to whoever writes the system prompt; these are the
// words of the model cards.
void declare_tools(const Conversation& conversation, ToolCallSyntax syntax, ChatText* out) {
  if (!out->empty()) *out += "\n\n";
  *out += "## Tools\nYou have access to the following tools:\n";
  for (const std::string& tool : conversation.tools) {
    const std::string function = json_member(tool, "function");
    *out += "\n### ";
    out->say(json_string_member(function, "name"));
    *out += "\nDescription: ";
    out->say(json_string_member(function, "description"));
    *out += "\n\nParameters: ";
    const std::string parameters = json_member(function, "parameters");
    out->say(parameters.empty() ? "{}" : parameters);
    *out += "\n";
  }
  *out += "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n";
  if (syntax == ToolCallSyntax::kDeepSeekV31) {
    *out +=
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments"
        "<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n";
  } else {
    *out +=
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>tool_call_name\n```json\n"
        "tool_call_arguments\n```<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n";
  }
  *out +=
      "\nWhere:\n- `tool_call_name` must be an exact match to one of the available tools\n"
      "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
      "- For multiple tool calls, chain them directly without separators or spaces\n";
}

// The answer that the model goes on with, behind the marker.  `before`: what the template puts there before
// an answer without a thought.
void append_begun(const ChatTurn& turn, Continuation continuation, std::string_view line,
                  std::string_view before, ChatText* out) {
  const bool thought = continuation == Continuation::kThought;
  if (!thought && !turn.reasoning) {
    *out += before;
  } else {
    *out += kThoughtBegin;
    *out += line;
    if (turn.reasoning) out->say(*turn.reasoning);
    if (thought) return;
    *out += line;
    *out += kThoughtEnd;
    *out += line;
    *out += line;
  }
  out->say(turn.content);
}

ChatText render_v32(const Details& details, const Conversation& conversation) {
  const std::vector<ChatTurn>& turns = conversation.turns;
  const bool thinking = conversation.thinking.value_or(false);
  ChatText out = system_prompt(turns, true);
  if (!conversation.tools.empty()) declare_dsml_tools(conversation, &out);
  ptrdiff_t last_user = -1;
  for (size_t i = 0; i < turns.size(); ++i) {
    if (turns[i].role == "user" || turns[i].role == "developer") last_user = static_cast<ptrdiff_t>(i);
  }
  bool asked = false, answered = false;  // by the user, by tools; the assistant has not spoken since
  size_t caller = turns.size();          // the last turn with calls, none: past the end
  for (size_t i = 0; i < turns.size(); ++i) {
    const ChatTurn& turn = turns[i];
    if (turn.role == "user") {
      out += kUser;
      out.say(turn.content);
      asked = true;
      answered = false;
    } else if (turn.role == "assistant") {
      if (const Continuation how = continuation_of(conversation, turn); how != Continuation::kNone) {
        if (asked || answered) out += asked ? kAssistant : "\n\n";
        const bool shows = thinking && static_cast<ptrdiff_t>(i) > last_user;
        append_begun(turn, how, "", !asked && !answered ? "" : shows ? "<think></think>" : kThoughtEnd, &out);
        return out;
      }
      if (asked || answered) {
        out += asked ? kAssistant : "\n\n";
        if (thinking && static_cast<ptrdiff_t>(i) > last_user) {
          out += kThoughtBegin;
          out.say(turn.reasoning.value_or(""));
        }
        out += kThoughtEnd;
      }
      asked = answered = false;
      out.say(turn.content);
      if (!turn.tool_calls.empty()) {
        append_dsml_calls(turn, &out);
        caller = i;
      }
      out += kSentenceEnd;
    } else if (turn.role == "tool") {
      // Results without a call before them are counted from the beginning, against the last turn's calls.
      const size_t order = caller < turns.size() ? i - caller : i + 1;
      const size_t n_call = (caller < turns.size() ? turns[caller] : turns.back()).tool_calls.size();
      if (order == 1) out += "\n\n<function_results>";
      out += "\n<result>";
      out.say(turn.content);
      out += "</result>";
      if (order == n_call) {
        out += "\n</function_results>";
        asked = false;
        answered = true;
      }
    }
  }
  if (wants_generation_prompt(conversation) && (asked || answered)) {
    out += asked ? kAssistant : "\n\n";
    out += thinking ? kThoughtBegin : details.before_generation;
  }
  return out;
}

// V3.1: calls in one row, results one after the other, and the answer follows them without a marker.
ChatText render_v31(const Details& details, const Conversation& conversation) {
  ChatText out = system_prompt(conversation.turns, details.joins_system_prompts);
  if (!conversation.tools.empty()) declare_tools(conversation, ToolCallSyntax::kDeepSeekV31, &out);
  bool asked = false;  // the user was the last to speak, tools and their results aside
  bool tool = false;   // a tool was
  for (const ChatTurn& turn : conversation.turns) {
    if (turn.role == "user") {
      out += kUser;
      out.say(turn.content);
      asked = true;
      tool = false;
    } else if (turn.role == "assistant") {
      if (const Continuation how = continuation_of(conversation, turn); how != Continuation::kNone) {
        if (asked) out += kAssistant;
        append_begun(turn, how, "", asked ? details.before_answer : "", &out);
        return out;
      }
      if (asked) {
        out += kAssistant;
        out += details.before_answer;
      }
      asked = false;
      if (!turn.tool_calls.empty()) {
        out.say(turn.content);
        out += kCallsBegin;
        for (const ChatToolCall& call : turn.tool_calls) {
          out += kCallBegin;
          out.say(call.name);
          out += kSeparator;
          out.say(shown_arguments(call));
          out += kCallEnd;
        }
        out += kCallsEnd;
      } else {
        out.say(tool ? std::string_view(turn.content) : without_thoughts(turn.content, details.thoughts));
      }
      tool = false;
      out += kSentenceEnd;
    } else if (turn.role == "tool") {
      asked = false;
      tool = true;
      out += kOutputBegin;
      out.say(turn.content);
      out += kOutputEnd;
    }
  }
  if (wants_generation_prompt(conversation) && asked) {
    out += kAssistant;
    out += conversation.thinking.value_or(false) ? kThoughtBegin : details.before_generation;
  }
  return out;
}

// V3 and R1.
ChatText render_v3(const Details& details, const Conversation& conversation) {
  using Marker = Details::Marker;
  ChatText out = system_prompt(conversation.turns, details.joins_system_prompts);
  if (!conversation.tools.empty()) declare_tools(conversation, ToolCallSyntax::kDeepSeekV3, &out);
  bool asked = false;  // the last turn is the user's
  bool tool = false;   // it is a tool's
  for (const ChatTurn& turn : conversation.turns) {
    if (tool && turn.role != "tool") {
      out += "<｜tool▁outputs▁end｜>";
    }
    if (turn.role == "user") {
      out += kUser;
      out.say(turn.content);
      if (details.marker == Marker::kWithQuestion) out += kAssistant;
      asked = true;
    } else if (turn.role == "assistant") {
      if (details.marker == Marker::kWithAnswer && !tool) out += kAssistant;
      if (const Continuation how = continuation_of(conversation, turn); how != Continuation::kNone) {
        append_begun(turn, how, "\n", "", &out);
        return out;
      }
      out.say(without_thoughts(turn.content, details.thoughts));
      if (!turn.tool_calls.empty()) {
        out += kCallsBegin;
        for (const ChatToolCall& call : turn.tool_calls) {
          if (&call != turn.tool_calls.data()) out += "\n";
          out += kCallBegin;
          out += "function";
          out += kSeparator;
          out.say(call.name);
          out += "\n```json\n";
          out.say(call.arguments);
          out += "\n```";
          out += kCallEnd;
        }
        out += kCallsEnd;
      }
      out += kSentenceEnd;
      asked = false;
    } else if (turn.role == "tool") {
      out += tool ? "\n" : "<｜tool▁outputs▁begin｜>";
      out += kOutputBegin;
      out.say(turn.content);
      out += kOutputEnd;
    }
    if (turn.role != "system") tool = turn.role == "tool";
  }
  if (tool) out += "<｜tool▁outputs▁end｜>";
  const bool wants_marker = details.marker == Marker::kWithAnswer || !asked;
  if (wants_generation_prompt(conversation) && !tool && wants_marker) {
    out += kAssistant;
    out += details.before_generation;
  }
  return out;
}

}  // namespace

ToolCallSyntax deepseek_tool_syntax(std::string_view jinja) {
  const Details details = read_details(jinja);
  if (details.dsml) return ToolCallSyntax::kDeepSeekV32;
  return details.marker == Details::Marker::kBetween ? ToolCallSyntax::kDeepSeekV31
                                                     : ToolCallSyntax::kDeepSeekV3;
}

ChatText render_deepseek_v2(const Conversation& conversation) {
  ChatText out;
  for (const ChatTurn& turn : conversation.turns) {
    if (turn.role == "user") {
      out += "User: ";
      out.say(turn.content);
      out += "\n\n";
    } else if (turn.role == "assistant") {
      out += "Assistant: ";
      if (const Continuation how = continuation_of(conversation, turn); how != Continuation::kNone) {
        append_begun(turn, how, "\n", "", &out);
        return out;
      }
      out.say(turn.content);
      out += kSentenceEnd;
    } else if (turn.role == "system") {
      out.say(turn.content);
      out += "\n\n";
    }
  }
  if (wants_generation_prompt(conversation)) out += "Assistant:";
  return out;
}

ChatText render_deepseek_v3(std::string_view jinja, const Conversation& conversation) {
  const Details details = read_details(jinja);
  if (details.dsml) return render_v32(details, conversation);
  if (details.marker == Details::Marker::kBetween) return render_v31(details, conversation);
  return render_v3(details, conversation);
}

}  // namespace odmoe
