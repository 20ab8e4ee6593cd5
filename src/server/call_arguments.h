// The arguments of a call as an object, for APIs that have them so.
#pragma once

#include "odmoe/chat.h"
#include "server/json_guard.h"

namespace odmoe::server {

// An object; what a model wrote instead comes as its member INVALID_JSON, as Anthropic has it.
Json arguments_object(const ChatToolCall& call);

}  // namespace odmoe::server
