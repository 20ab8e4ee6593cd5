#include "model/tokenizer/chat_words.h"

#include <optional>
#include <string_view>
#include <utility>

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

// Small words, so that trying costs little whatever the template is.
constexpr jinja::Limits kLimits{
    .steps = 1'000'000, .memory_bytes = size_t{16} << 20, .output_bytes = size_t{1} << 20};

constexpr std::string_view kSystem = "PROBE-SYSTEM", kUser = "PROBE-USER", kAnswer = "PROBE-ANSWER",
                           kThought = "PROBE-THOUGHT", kResult = "PROBE-RESULT", kTool = "probe_tool",
                           kKey = "probe_key", kValue = "probe_value";
constexpr std::string_view kShortId = "probe0001", kLongId = "call_probe_0000000001";

Json message(std::string_view role, Json content) {
  return {{"role", role}, {"content", std::move(content)}};
}

Json tools() {
  return Json::array({{{"type", "function"},
                       {"function",
                        {{"name", kTool},
                         {"description", "A tool."},
                         {"parameters",
                          {{"type", "object"},
                           {"properties", {{kKey, {{"type", "string"}, {"description", "A value."}}}}},
                           {"required", Json::array({kKey})}}}}}}});
}

Json bare_tools() { return Json::array({{{"type", "function"}, {"function", {{"name", kTool}}}}}); }

class Trial {
 public:
  Trial(const jinja::Template& chat_template, const jinja::SpecialTokens& special_tokens)
      : template_(chat_template), special_tokens_(special_tokens) {}

  // Nothing: an error.
  std::optional<std::string> render(Json messages, Json declared = nullptr) const {
    jinja::ChatInput input{.messages = std::move(messages), .tools = std::move(declared)};
    auto rendered = render_chat_prompt(template_, std::move(input), special_tokens_, {.limits = kLimits});
    if (!rendered.has_value()) return std::nullopt;
    return std::move(rendered->text);
  }

 private:
  const jinja::Template& template_;
  const jinja::SpecialTokens& special_tokens_;
};

bool shows(const std::optional<std::string>& text, std::string_view what) {
  return text.has_value() && text->contains(what);
}

// How a message with a call looks to the template.
struct CallShape {
  bool text = false;
  bool null = false;
  bool short_id = false;
  bool named = false;  // the result
};

Json conversation_with_call(const CallShape& shape, bool beside_thought = false) {
  const std::string_view id = shape.short_id ? kShortId : kLongId;
  const Json arguments{{kKey, kValue}};
  Json call = message("assistant", shape.null ? Json() : Json(""));
  if (beside_thought) {
    call["content"] = kAnswer;
    for (const std::string_view key : jinja::kThoughtKeys) call[std::string(key)] = kThought;
  }
  call["tool_calls"] = Json::array(
      {{{"id", id},
        {"type", "function"},
        {"function", {{"name", kTool}, {"arguments", shape.text ? Json(arguments.dump()) : arguments}}}}});
  Json result = message("tool", kResult);
  result["tool_call_id"] = id;
  if (shape.named) result["name"] = kTool;
  return Json::array({message("user", kUser), std::move(call), std::move(result)});
}

// Whether call and result come out as a model would write them: not as Python shows a dict, not as a
// quotation.
bool shows_call(const std::optional<std::string>& text) {
  if (!shows(text, kKey) || !shows(text, kValue) || !shows(text, kResult)) return false;
  const std::string key(kKey);
  return !text->contains("'" + key + "'") && !text->contains("\\\"" + key);
}

// The first shape that comes out; nothing: none does.
std::optional<CallShape> shape_of_calls(const Trial& trial) {
  for (unsigned bits = 0; bits < 16; ++bits) {
    const CallShape shape{.text = (bits & 2U) != 0,
                          .null = (bits & 1U) != 0,
                          .short_id = (bits & 4U) != 0,
                          .named = (bits & 8U) != 0};
    if (shows_call(trial.render(conversation_with_call(shape), tools()))) return shape;
  }
  return std::nullopt;
}

}  // namespace

ChatWords words_of(const jinja::Template& chat_template, const jinja::SpecialTokens& special_tokens) {
  const Trial trial(chat_template, special_tokens);
  ChatWords words;
  const Json user = message("user", kUser);
  const Json parts = message("user", Json::array({{{"type", "text"}, {"text", kUser}}}));
  words.parts =
      !shows(trial.render(Json::array({user})), kUser) && shows(trial.render(Json::array({parts})), kUser);
  if (words.parts) {
    // Such templates are of models that see; calls of tools are not among their words.
    const Json system = message("system", Json::array({{{"type", "text"}, {"text", kSystem}}}));
    words.system = shows(trial.render(Json::array({system, parts})), kSystem);
    words.tools = words.calls = false;
    return words;
  }
  words.system = shows(trial.render(Json::array({message("system", kSystem), user})), kSystem);
  words.tools = shows(trial.render(Json::array({user}), tools()), kTool) ||
                shows(trial.render(Json::array({message("system", kSystem), user}), tools()), kTool);
  words.whole_tools = words.tools && !shows(trial.render(Json::array({user}), bare_tools()), kTool);
  const auto shape = shape_of_calls(trial);
  words.calls = shape.has_value();
  if (!shape) return words;
  words.text_arguments = shape->text;
  words.null_content = shape->null;
  words.short_ids = shape->short_id;
  words.result_names = shape->named;
  words.thought_beside =
      trial.render(conversation_with_call(*shape, /*beside_thought=*/true), tools()).has_value();
  return words;
}

}  // namespace odmoe
