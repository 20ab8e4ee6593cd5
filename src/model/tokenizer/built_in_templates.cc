#include "model/tokenizer/built_in_templates.h"

#include <array>
#include <utility>

namespace odmoe {
namespace {

// Qwen's words for tools.
constexpr std::string_view kChatMl = R"jinja({%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages and messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- '# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if tools and loop.first and message.role == 'system' %}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '' if loop.first and not message.content else '\n' }}
            {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})jinja";

constexpr std::string_view kKimiK2Template = R"jinja({%- if tools %}
    {{- '<|im_system|>tool_declare<|im_middle|>' + tools | tojson + '<|im_end|>' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_' + (message.role if message.role in ['user', 'assistant'] else 'system') + '|>' }}
    {{- (message.name or message.role) + '<|im_middle|>' }}
    {%- if message.role == 'tool' %}
        {{- '## Return of ' + (message.tool_call_id or '') + '\n' }}
    {%- endif %}
    {{- message.content }}
    {%- if message.tool_calls %}
        {{- '<|tool_calls_section_begin|>' }}
        {%- for call in message.tool_calls %}
            {{- '<|tool_call_begin|>' + call.id + '<|tool_call_argument_begin|>' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '<|tool_call_end|>' }}
        {%- endfor %}
        {{- '<|tool_calls_section_end|>' }}
    {%- endif %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_assistant|>assistant<|im_middle|>' }}
{%- endif %})jinja";

constexpr std::string_view kDeepSeekV2 = R"jinja({{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- 'User: ' + message.content + '\n\n' }}
    {%- elif message.role == 'assistant' %}
        {{- 'Assistant: ' ~ message.content ~ eos_token }}
    {%- elif message.role == 'system' %}
        {{- message.content + '\n\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %})jinja";

constexpr std::string_view kDeepSeekV3Template = R"jinja({{- bos_token }}
{%- set ns = namespace(system=[], tool=false) %}
{%- for message in messages if message.role == 'system' %}
    {%- set ns.system = ns.system + [message.content] %}
{%- endfor %}
{{- ns.system | join('\n\n') }}
{%- for message in messages %}
    {%- if ns.tool and message.role != 'tool' %}
        {{- '<｜tool▁outputs▁end｜>' }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '<｜User｜>' + message.content }}
    {%- elif message.role == 'assistant' %}
        {{- ('' if ns.tool else '<｜Assistant｜>') + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '<｜tool▁calls▁begin｜>' if loop.first else '\n' }}
            {{- '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + call.function.name + '\n```json\n' }}
            {{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
            {{- '\n```<｜tool▁call▁end｜>' + ('<｜tool▁calls▁end｜>' if loop.last else '') }}
        {%- endfor %}
        {{- '<｜end▁of▁sentence｜>' }}
    {%- elif message.role == 'tool' %}
        {{- ('\n' if ns.tool else '<｜tool▁outputs▁begin｜>') + '<｜tool▁output▁begin｜>' + message.content + '<｜tool▁output▁end｜>' }}
    {%- endif %}
    {%- set ns.tool = message.role == 'tool' %}
{%- endfor %}
{%- if ns.tool %}
    {{- '<｜tool▁outputs▁end｜>' }}
{%- endif %}
{%- if add_generation_prompt and not ns.tool %}
    {{- '<｜Assistant｜>' }}
{%- endif %})jinja";

constexpr auto kTemplates = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"chatml", kChatMl},
    {"deepseek-v2", kDeepSeekV2},
    {"deepseek-v3", kDeepSeekV3Template},
    {"kimi-k2", kKimiK2Template},
});

}  // namespace

std::string_view built_in_chat_template(std::string_view name) {
  for (const auto& [known, source] : kTemplates) {
    if (known == name) return source;
  }
  return {};
}

std::string built_in_chat_template_names() {
  std::string names;
  for (const auto& [name, source] : kTemplates) {
    if (!names.empty()) names += ", ";
    names += name;
  }
  return names;
}

}  // namespace odmoe
