// A token as APIs tell it beside its probability: control tokens are shown.
#pragma once

#include <string>

#include "odmoe/engine.h"
#include "server/json_guard.h"

namespace odmoe::server {

std::string token_text(const Engine& engine, Token token);  // with U+FFFD for parts of characters
Json token_byte_list(const Engine& engine, Token token);    // numbers

}  // namespace odmoe::server
