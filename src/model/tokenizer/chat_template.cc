#include "model/tokenizer/chat_template.h"

#include <array>
#include <utility>

#include "model/tokenizer/chat_families.h"
#include "model/tokenizer/python_json.h"

namespace odmoe {
namespace {

constexpr auto kNames = std::to_array<std::pair<ChatFamily, std::string_view>>({
    {ChatFamily::kChatMl, "chatml"},
    {ChatFamily::kKimiK2, "kimi-k2"},
    {ChatFamily::kDeepSeekV2, "deepseek-v2"},
    {ChatFamily::kDeepSeekV3, "deepseek-v3"},
});

constexpr std::string_view kKnown = "chatml, kimi-k2, deepseek-v2, deepseek-v3";

}  // namespace

Result<ChatFamily> detect_chat_family(std::string_view jinja) {
  if (jinja.empty()) {
    return fail(ErrorKind::kUnsupported, "the model has no chat template: choose one of {}", kKnown);
  }
  if (jinja.contains("<|im_middle|>")) return ChatFamily::kKimiK2;
  if (jinja.contains("<｜User｜>")) return ChatFamily::kDeepSeekV3;
  if (jinja.contains("<|im_start|>")) return ChatFamily::kChatMl;
  if (jinja.contains("'User: '") && jinja.contains("'Assistant:'")) return ChatFamily::kDeepSeekV2;
  return fail(ErrorKind::kUnsupported, "the model's chat template is of no known family: choose one of {}",
              kKnown);
}

Result<ChatFamily> parse_chat_family(std::string_view name) {
  for (const auto& [family, family_name] : kNames) {
    if (family_name == name) return family;
  }
  return fail(ErrorKind::kUsage, "there is no chat template \"{}\": choose one of {}", name, kKnown);
}

std::string_view chat_family_name(ChatFamily family) {
  for (const auto& [known, name] : kNames) {
    if (known == family) return name;
  }
  std::unreachable();
}

bool chat_template_has_bos(std::string_view jinja) { return jinja.contains("bos_token"); }

ToolCallSyntax tool_call_syntax(ChatFamily family, std::string_view jinja) {
  switch (family) {
    case ChatFamily::kChatMl:
      return ToolCallSyntax::kHermes;
    case ChatFamily::kKimiK2:
      return ToolCallSyntax::kKimi;
    case ChatFamily::kDeepSeekV2:
      return ToolCallSyntax::kDeepSeekV3;
    case ChatFamily::kDeepSeekV3:
      return deepseek_tool_syntax(jinja);
  }
  std::unreachable();
}

ChatText render_chat(ChatFamily family, std::string_view jinja, const Conversation& conversation) {
  const std::string resolved = resolve_escapes(jinja);
  switch (family) {
    case ChatFamily::kChatMl:
      return render_chatml(resolved, conversation);
    case ChatFamily::kKimiK2:
      return render_kimi_k2(resolved, conversation);
    case ChatFamily::kDeepSeekV2:
      return render_deepseek_v2(conversation);
    case ChatFamily::kDeepSeekV3:
      return render_deepseek_v3(resolved, conversation);
  }
  std::unreachable();
}

std::string shown_arguments(const ChatToolCall& call) {
  return call.arguments_are_json ? python_json(call.arguments) : call.arguments;
}

std::string resolve_escapes(std::string_view jinja) {
  std::string out;
  out.reserve(jinja.size());
  for (size_t i = 0; i < jinja.size(); ++i) {
    if (jinja[i] != '\\' || i + 1 == jinja.size()) {
      out += jinja[i];
      continue;
    }
    const char escaped = jinja[++i];
    switch (escaped) {
      case 'n':
        out += '\n';
        break;
      case '\'':
      case '"':
      case '\\':
        out += escaped;
        break;
      default:
        out += '\\';
        out += escaped;
    }
  }
  return out;
}

std::optional<ConstantText> find_constant(std::string_view jinja, std::string_view begin,
                                          std::string_view end) {
  for (size_t at = jinja.find(begin); at != std::string_view::npos; at = jinja.find(begin, at + 1)) {
    const size_t from = at + begin.size();
    const size_t to = jinja.find(end, from);
    if (to == std::string_view::npos) return std::nullopt;
    const std::string_view text = jinja.substr(from, to - from);
    const bool constant = !text.empty() && text[0] != '\'' && text[0] != '"' && !text.contains("{{") &&
                          !text.contains("{%") && !text.contains("' +") && !text.contains("\" +");
    if (constant) return ConstantText{.text = text, .end = to};
  }
  return std::nullopt;
}

std::string_view after_last(std::string_view text, std::string_view marker) {
  const size_t at = text.rfind(marker);
  return at == std::string_view::npos ? text : text.substr(at + marker.size());
}

}  // namespace odmoe
