// A chat template that the Jinja interpreter renders.
#pragma once

#include <ctime>
#include <memory>
#include <optional>

#include "jinja/chat_prompt.h"
#include "odmoe/chat_template.h"
#include "odmoe/result.h"

namespace odmoe {

// `tells_time`: what templates are told of the time, instead of the local time; for tests.
// kUnsupported: `choice.source` is empty or cannot be read; kUsage: `choice.kwargs` is no JSON object.
Result<std::unique_ptr<ChatTemplate>> make_chat_template(const ChatTemplateChoice& choice,
                                                         const jinja::SpecialTokens& special_tokens,
                                                         std::optional<std::tm> tells_time = std::nullopt);

}  // namespace odmoe
