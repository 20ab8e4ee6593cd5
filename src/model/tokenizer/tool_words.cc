#include "model/tokenizer/tool_words.h"

#include <utility>
#include <vector>

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

// Qwen2.5's words.
constexpr std::string_view kHermes = R"jinja(# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{%- for tool in tools %}
    {{- '\n' + tool | tojson }}
{%- endfor %}
{{ '\n' }}</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>)jinja";

// The words of DeepSeek's model cards.
constexpr std::string_view kDeepSeek = R"jinja(## Tools
You have access to the following tools:
{% for tool in tools %}
    {{- '\n### ' ~ tool.function.name }}
    {{- '\nDescription: ' ~ tool.function.description }}
    {{- '\n\nParameters: ' ~ (tool.function.parameters or {}) | tojson ~ '\n' }}
{%- endfor %}

IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>
{{- 'tool_call_name<｜tool▁sep｜>tool_call_arguments' if v31 else 'function<｜tool▁sep｜>tool_call_name\n```json\ntool_call_arguments\n```' -}}
<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>

Where:
- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces
{{ '' }})jinja";

constexpr std::string_view kHermesCalls = R"jinja({{- content }}
{%- for call in calls %}
    {{- '\n' if content or not loop.first }}
    {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
    {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
    {{- '}\n</tool_call>' }}
{%- endfor %})jinja";

Result<jinja::Rendered> rendered(std::string_view source, const std::vector<jinja::Input>& inputs,
                                 const jinja::ChatPromptOptions& options) {
  ODMOE_ASSIGN_OR_RETURN(const auto words, jinja::Template::parse(source));
  return words.render(inputs, {.now = options.now, .limits = options.limits, .goes_on = options.goes_on});
}

}  // namespace

ToolForm tool_form_of(std::string_view source) {
  if (source.contains("<｜User｜>")) {
    return source.contains("thinking is defined") ? ToolForm::kDeepSeekV31 : ToolForm::kDeepSeekV3;
  }
  return source.contains("<|im_start|>") ? ToolForm::kHermes : ToolForm::kNone;
}

Result<jinja::Rendered> declared_tools(ToolForm form, const Json& tools,
                                       const jinja::ChatPromptOptions& options) {
  const bool v31 = form == ToolForm::kDeepSeekV31;
  return rendered(form == ToolForm::kHermes ? kHermes : kDeepSeek,
                  {{.name = "tools", .value = tools}, {.name = "v31", .value = v31, .said = false}}, options);
}

Result<Json> calls_as_text(const Json& messages, const jinja::ChatPromptOptions& options) {
  Json out = Json::array();
  bool after_result = false;
  for (const Json& message : messages) {
    const bool result = message.at("role") == "tool";
    if (result) {
      const std::string text =
          "<tool_response>\n" + message.at("content").get<std::string>() + "\n</tool_response>";
      // Results that follow one another share a message.
      if (after_result) {
        out.back()["content"].get_ref<std::string&>() += "\n" + text;
      } else {
        out.push_back({{"role", "user"}, {"content", text}});
      }
    } else if (message.contains("tool_calls")) {
      const Json& content = message.at("content");
      ODMOE_ASSIGN_OR_RETURN(auto text,
                             rendered(kHermesCalls,
                                      {{.name = "content", .value = content.is_null() ? Json("") : content},
                                       {.name = "calls", .value = message.at("tool_calls")}},
                                      options));
      Json& said = out.emplace_back(message);
      said.erase("tool_calls");
      said["content"] = std::move(text.text);
    } else {
      out.push_back(message);
    }
    after_result = result;
  }
  return out;
}

}  // namespace odmoe
