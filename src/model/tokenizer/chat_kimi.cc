// Kimi-K2, K2-Instruct, K2-Thinking and K2.5.
#include <algorithm>
#include <deque>

#include "model/tokenizer/chat_families.h"
#include "model/tokenizer/python_json.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr std::string_view kMiddle = "<|im_middle|>";
constexpr std::string_view kMessageEnd = "<|im_end|>";

std::string_view opening(std::string_view role) {
  if (role == "user") return "<|im_user|>";
  if (role == "assistant") return "<|im_assistant|>";
  return "<|im_system|>";
}

// The template of K2-Instruct lets a newline through behind its default prompt: the white space before a
// statement is trimmed only where the statement says so (`{%-`).
std::string_view white_space_behind(std::string_view jinja, size_t at) {
  const size_t statement = jinja.find("{%", at);
  if (statement == std::string_view::npos || jinja.substr(statement).starts_with("{%-")) return {};
  const std::string_view between = jinja.substr(at, statement - at);
  return between.starts_with('\n') ? between.substr(0, between.rfind('\n') + 1) : std::string_view();
}

class Renderer {
 public:
  Renderer(std::string_view jinja, const Conversation& conversation)
      : jinja_(jinja),
        conversation_(&conversation),
        // The first template numbers the calls of each message from 0 and shows the caller's own ids.
        first_(jinja.contains("loop.index0|string")),
        thinks_(jinja.contains("<think></think>{{")) {}

  ChatText render() {
    const std::vector<ChatTurn>& turns = conversation_->turns;
    if (!conversation_->tools.empty()) declare_tools();
    if (!turns.empty() && turns[0].role != "system") default_system();
    // Thinking models see the thoughts of what they are in the middle of; the template takes the first answer
    // without calls for where that begins.
    const auto answer = std::ranges::find_if(
        turns, [](const ChatTurn& turn) { return turn.role == "assistant" && turn.tool_calls.empty(); });
    const auto n_past = answer == turns.end() ? 0 : answer - turns.begin() + 1;
    for (const ChatTurn& turn : turns) message(turn, &turn - turns.data() >= n_past);
    if (wants_generation_prompt(*conversation_)) generation_prompt();
    return std::move(out_);
  }

 private:
  void declare_tools() {
    // The published K2.5 writes them without spaces.
    const bool compact = jinja_.contains("separators=(','");
    std::string list = "[";
    for (const std::string& tool : conversation_->tools) {
      if (list.size() > 1) list += compact ? "," : ", ";
      list += compact ? compact_json(tool) : python_json(tool);
    }
    out_ += "<|im_system|>tool_declare<|im_middle|>";
    out_.say(list + "]");
    out_ += kMessageEnd;
  }

  void default_system() {
    const auto system = find_constant(jinja_, "<|im_system|>system<|im_middle|>", kMessageEnd);
    if (!system) return;
    out_ += "<|im_system|>system<|im_middle|>";
    out_ += system->text;
    out_ += kMessageEnd;
    out_ += white_space_behind(jinja_, system->end + kMessageEnd.size());
  }

  void message(const ChatTurn& turn, bool in_progress) {
    out_ += opening(turn.role);
    out_.say(first_ || turn.name.empty() ? turn.role : turn.name);
    out_ += kMiddle;
    const Continuation how = continuation_of(*conversation_, turn);
    const bool thought = how == Continuation::kThought;
    const bool begun = how == Continuation::kAnswer;
    if (turn.role == "assistant" && (thinks_ || thought || (begun && turn.reasoning))) {
      out_ += "<think>";
      if ((in_progress || thought || begun) && turn.reasoning) out_.say(*turn.reasoning);
      if (thought) return;
      out_ += "</think>";
    }
    if (turn.role == "tool") tool_result(turn);
    out_.say(turn.content);
    if (turn.role == "assistant" && !turn.tool_calls.empty()) calls(turn);
    if (!begun) out_ += kMessageEnd;
  }

  void calls(const ChatTurn& turn) {
    out_ += "<|tool_calls_section_begin|>";
    int index = 0;
    for (const ChatToolCall& call : turn.tool_calls) {
      const std::string id = odmoe::format("functions.{}:{}", call.name, first_ ? index++ : n_call_++);
      ids_.push_back(id);
      out_ += "<|tool_call_begin|>";
      out_.say(id);
      out_ += "<|tool_call_argument_begin|>";
      out_.say(shown_arguments(call));
      out_ += "<|tool_call_end|>";
    }
    out_ += "<|tool_calls_section_end|>";
  }

  void tool_result(const ChatTurn& turn) {
    std::string id = turn.tool_call_id;
    if (!first_ && !ids_.empty()) {
      id = ids_.front();
      ids_.pop_front();
    } else if (!first_) {
      id = odmoe::format("functions.{}:{}", turn.name.empty() ? "unknown" : turn.name, n_call_);
    }
    out_ += "## Return of ";
    out_.say(id);
    // In the first template the two characters stand outside of any literal, and stay what they are.
    out_ += first_ ? "\\n" : "\n";
  }

  void generation_prompt() {
    out_ += "<|im_assistant|>assistant<|im_middle|>";
    // K2.5 begins to think unless it is told not to.
    const std::string_view tail = after_last(jinja_, "<|im_assistant|>assistant<|im_middle|>");
    if (jinja_.empty() || !after_last(tail, "</think>").contains("<think>")) return;
    out_ += conversation_->thinking == false ? "<think></think>" : "<think>";
  }

  std::string_view jinja_;
  const Conversation* conversation_;
  bool first_;
  bool thinks_;
  ChatText out_;
  std::deque<std::string> ids_;  // of calls whose results have not come yet
  int n_call_ = 0;
};

}  // namespace

ChatText render_kimi_k2(std::string_view jinja, const Conversation& conversation) {
  return Renderer(jinja, conversation).render();
}

}  // namespace odmoe
