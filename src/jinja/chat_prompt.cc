#include "jinja/chat_prompt.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "jinja/unicode.h"

namespace odmoe::jinja {
namespace {

using Json = nlohmann::ordered_json;

// What transformers puts behind the message that is to be continued, to find its end again: templates that
// trim what messages say take the space away.
constexpr std::string_view kEndMark = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr std::string_view kEndMarkWithoutSpace = kEndMark.substr(0, kEndMark.size() - 1);

bool is_known_role(std::string_view text) {
  constexpr auto kRoles = std::to_array<std::string_view>(
      {"system", "user", "assistant", "tool", "developer", "function", "model", "ipython", "observation",
       "tool_response", "tool_result", "tool_results", "environment", "context", "documents"});
  return std::ranges::contains(kRoles, text);
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = skip_space(text, 0), end = skip_space_back(text, text.size());
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

// The texts of the last message that are to be continued, which are all the same; none: it has none.
std::vector<std::string*> final_thoughts(Json& message) {
  std::vector<std::string*> texts;
  for (const std::string_view key : kThoughtKeys) {
    const auto thought = message.find(key);
    if (thought != message.end() && thought->is_string()) texts.push_back(thought->get_ptr<std::string*>());
  }
  return texts;
}

std::string* final_content(Json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return nullptr;
  if (content->is_string()) return content->get_ptr<std::string*>();
  if (!content->is_array()) return nullptr;
  for (auto part = content->rbegin(); part != content->rend(); ++part) {
    if (!part->is_object()) continue;
    const auto text = part->find("text");
    if (text != part->end() && text->is_string()) return text->get_ptr<std::string*>();
  }
  return nullptr;
}

std::vector<std::string*> final_texts(Json& messages, ChatEnd end) {
  if (!messages.is_array() || messages.empty() || !messages.back().is_object()) return {};
  if (end == ChatEnd::kThought) return final_thoughts(messages.back());
  std::string* content = final_content(messages.back());
  return content != nullptr ? std::vector<std::string*>{content} : std::vector<std::string*>();
}

void cut(Rendered& rendered, size_t size) {
  rendered.text.resize(size);
  while (!rendered.said.empty() && rendered.said.back().begin >= size) rendered.said.pop_back();
  if (!rendered.said.empty()) rendered.said.back().end = std::min(rendered.said.back().end, size);
}

Status cut_at_end_mark(Rendered& rendered, std::string_view final_message) {
  const size_t at = rendered.text.rfind(kEndMarkWithoutSpace);
  if (at == std::string::npos || !rendered.text.contains(trimmed(final_message))) {
    return fail(ErrorKind::kUnsupported,
                "the last message cannot be continued: the chat template does not show it as it is");
  }
  const bool keeps_space = rendered.text.compare(at, kEndMark.size(), kEndMark) == 0;
  cut(rendered, keeps_space ? at : skip_space_back(std::string_view(rendered.text).substr(0, at), at));
  return {};
}

// Where the first message's content is; null: it has none.
const char* first_content(const std::vector<Input>& inputs) {
  const auto messages = std::ranges::find(inputs, "messages", &Input::name);
  if (messages == inputs.end() || !messages->value.is_array() || messages->value.empty()) return nullptr;
  const Json& first = messages->value.front();
  const auto content = first.is_object() ? first.find("content") : first.end();
  if (!first.is_object() || content == first.end() || !content->is_string()) return nullptr;
  return content->get_ref<const std::string&>().data();
}

}  // namespace

std::tm local_time() { return local_time(std::time(nullptr)); }

std::tm local_time(std::time_t at) {
  std::tm time = {};
  (void)localtime_r(&at, &time);
  return time;
}

Result<Rendered> render_chat_prompt(const Template& chat_template, ChatInput input,
                                    const SpecialTokens& special_tokens, const ChatPromptOptions& options) {
  constexpr auto kOwnNames =
      std::to_array<std::string_view>({"messages", "tools", "documents", "add_generation_prompt"});
  std::vector<Input> inputs;
  inputs.reserve(special_tokens.size() + input.kwargs.size() + kOwnNames.size());
  for (const auto& [name, text] : special_tokens)
    inputs.push_back({.name = name, .value = text, .said = false});
  for (auto& [name, value] : input.kwargs.items()) {
    if (std::ranges::contains(kOwnNames, name)) {
      return fail(ErrorKind::kUsage, "the chat template is given '{}' already", name);
    }
    inputs.push_back({.name = name, .value = std::move(value)});
  }
  Json messages = std::move(input.messages);
  std::string final_message;
  if (input.end != ChatEnd::kPrompt) {
    const std::vector<std::string*> texts = final_texts(messages, input.end);
    if (texts.empty()) {
      return fail(ErrorKind::kUnsupported, "the last message has no text that could be continued");
    }
    final_message = *texts.front();
    for (std::string* text : texts) *text += kEndMark;
  }
  inputs.push_back({.name = "messages", .value = std::move(messages)});
  inputs.push_back({.name = "tools", .value = std::move(input.tools)});
  inputs.push_back({.name = "documents", .value = std::move(input.documents)});
  inputs.push_back({.name = "add_generation_prompt", .value = input.add_generation_prompt, .said = false});
  const char* first = first_content(inputs);
  const auto own = [&](std::string_view key, std::string_view text) -> std::vector<Span> {
    if (first != nullptr && text.data() == first) return input.own_in_first;
    if (key == "role" && is_known_role(text)) return {{.begin = 0, .end = text.size()}};
    return {};
  };
  ODMOE_ASSIGN_OR_RETURN(
      Rendered rendered,
      chat_template.render(
          inputs, {.now = options.now, .own = own, .limits = options.limits, .goes_on = options.goes_on}));
  if (input.end != ChatEnd::kPrompt) ODMOE_RETURN_IF_ERROR(cut_at_end_mark(rendered, final_message));
  return rendered;
}

}  // namespace odmoe::jinja
