#include "model/tokenizer/chat_messages.h"

#include <string>
#include <unordered_map>
#include <utility>

#include "base/ordered_json.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

class Messages {
 public:
  Messages(const ChatWords& words, RawArguments* raw) : words_(words), raw_(raw) {}

  Json of(const std::vector<ChatTurn>& turns) {
    Json messages = Json::array();
    std::string before;  // the system's words, for the next message of the user
    for (const ChatTurn& turn : turns) {
      if (turn.role == "system" && !words_.system) {
        before += turn.content + "\n\n";
        continue;
      }
      messages.push_back(message(turn, turn.role == "user" ? std::exchange(before, "") : ""));
    }
    if (!before.empty()) {
      before.resize(before.size() - 2);
      messages.push_back(message({.role = "user", .content = before}, ""));
    }
    return messages;
  }

 private:
  Json message(const ChatTurn& turn, const std::string& before) {
    Json out{{"role", turn.role}};
    const bool calls_alone = turn.content.empty() && !turn.tool_calls.empty();
    out["content"] = calls_alone && words_.null_content ? Json() : content(before + turn.content);
    const bool crowded = !turn.content.empty() && !turn.tool_calls.empty();
    if (turn.reasoning && (words_.thought_beside || !crowded)) {
      for (const std::string_view key : jinja::kThoughtKeys) out[std::string(key)] = *turn.reasoning;
    }
    if (!turn.name.empty()) out["name"] = turn.name;
    if (!turn.tool_calls.empty()) out["tool_calls"] = calls(turn.tool_calls);
    if (turn.role == "tool") {
      out["tool_call_id"] = id(turn.tool_call_id);
      const auto name = names_.find(turn.tool_call_id);
      if (words_.result_names && turn.name.empty() && name != names_.end()) out["name"] = name->second;
    }
    return out;
  }

  Json content(std::string text) const {
    if (!words_.parts) return text;
    return Json::array({{{"type", "text"}, {"text", std::move(text)}}});
  }

  Json calls(const std::vector<ChatToolCall>& calls) {
    Json out = Json::array();
    for (const ChatToolCall& call : calls) {
      names_[call.id] = call.name;
      out.push_back({{"id", id(call.id)},
                     {"type", "function"},
                     {"function", {{"name", call.name}, {"arguments", arguments(call)}}}});
    }
    return out;
  }

  Json arguments(const ChatToolCall& call) const {
    if (words_.text_arguments) return call.arguments;
    if (call.arguments_are_json) {
      auto json = read_ordered_json(call.arguments);
      if (json.has_value() && json->is_object()) return std::move(*json);
    }
    return raw_ != nullptr ? Json(raw_->sign_of(call.arguments)) : Json{{"arguments", call.arguments}};
  }

  std::string id(const std::string& own) {
    if (!words_.short_ids) return own;
    const auto [place, added] = short_ids_.try_emplace(own);
    if (added) place->second = odmoe::format("call{:05}", short_ids_.size() % 100'000);
    return place->second;
  }

  const ChatWords& words_;
  RawArguments* raw_;
  std::unordered_map<std::string, std::string> names_;      // of tools, by the ids of their calls
  std::unordered_map<std::string, std::string> short_ids_;  // by the client's
};

// What a declaration may leave out.
void complete(Json& tool) {
  if (!tool.is_object() || !tool.contains("function") || !tool["function"].is_object()) return;
  Json& function = tool["function"];
  if (!function.contains("description")) function["description"] = "";
  if (!function.contains("parameters") || function["parameters"].is_null()) {
    function["parameters"] = Json{{"type", "object"}, {"properties", Json::object()}};
  }
}

Result<Json> object_of(const std::string& text) {
  if (text.empty()) return Json::object();
  auto json = read_ordered_json(text);
  if (!json.has_value() || !json->is_object()) {
    return fail(ErrorKind::kUsage, "the variables of the chat template must be a JSON object");
  }
  return std::move(*json);
}

}  // namespace

Result<jinja::ChatInput> chat_input_of(const Conversation& conversation, const ChatWords& words,
                                       const Json& kwargs, RawArguments* raw) {
  jinja::ChatInput input{.messages = Messages(words, raw).of(conversation.turns), .kwargs = kwargs};
  if (!conversation.tools.empty()) {
    input.tools = Json::array();
    for (const std::string& tool : conversation.tools) {
      auto json = read_ordered_json(tool);
      if (!json.has_value()) return fail(ErrorKind::kUsage, "the declaration of a tool is no JSON");
      if (words.whole_tools) complete(*json);
      input.tools.push_back(std::move(*json));
    }
  }
  if (conversation.thinking) {
    // The names that templates have for the switch.
    input.kwargs["enable_thinking"] = *conversation.thinking;
    input.kwargs["thinking"] = *conversation.thinking;
  }
  if (!conversation.reasoning_effort.empty())
    input.kwargs["reasoning_effort"] = conversation.reasoning_effort;
  ODMOE_ASSIGN_OR_RETURN(const Json own, object_of(conversation.kwargs));
  for (const auto& [name, value] : own.items()) input.kwargs[name] = value;
  input.add_generation_prompt =
      conversation.add_generation_prompt && conversation.continuation == Continuation::kNone;
  return input;
}

}  // namespace odmoe
