// Words for tools where a chat template has none: in the form that models of its family were trained on.
//
// Qwen1.5's and Qwen2's templates (ChatML) say nothing of tools, nor do those of DeepSeek-V3, R1 and V3.1,
// which leave their declaration to whoever writes the system message.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "jinja/chat_prompt.h"
#include "jinja/template.h"
#include "odmoe/result.h"

namespace odmoe {

enum class ToolForm {
  kNone,
  kHermes,       // Qwen's: JSON between <tool_call> and </tool_call>
  kDeepSeekV3,   // <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n```<｜tool▁call▁end｜>
  kDeepSeekV31,  // <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜>
};

// By the marks in the template's source.
ToolForm tool_form_of(std::string_view source);

// The declaration, for the end of the system message.  `form` is not kNone.
// Errors as of jinja::Template::render().
Result<jinja::Rendered> declared_tools(ToolForm form, const nlohmann::ordered_json& tools,
                                       const jinja::ChatPromptOptions& options);

// Rewrites messages with calls, and what tools answered, into messages with text alone, as Hermes writes it.
// Errors the same.
Result<nlohmann::ordered_json> calls_as_text(const nlohmann::ordered_json& messages,
                                             const jinja::ChatPromptOptions& options);

}  // namespace odmoe
