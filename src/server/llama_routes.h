// What clients of llama.cpp's server ask for beside OpenAI's API: /props and /apply-template.
#pragma once

#include <span>
#include <string_view>

#include "server/body.h"
#include "server/served_model.h"

namespace odmoe::server {

// What is true of this server, by the names that llama.cpp's has for it.
Body answer_props(const ServedModel& model, std::string_view model_id);
// The prompt of a chat as text.
Body answer_apply_template(const ServedModel& model, std::span<const Token> prompt);

}  // namespace odmoe::server
