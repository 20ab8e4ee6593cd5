// Anthropic's words for what is to be generated: the bodies of /v1/messages and /v1/messages/count_tokens.
//
// What is honoured is read as Anthropic defines it, with the leniency of request.h.  Beside its own fields
// those that choose tokens are honoured by the names that /v1/chat/completions has for them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "server/api_error.h"
#include "server/fields.h"
#include "server/generation_request.h"
#include "server/request_fields.h"
#include "server/request_memory.h"

namespace odmoe::server {

struct AnthropicRequest {
  ChatRequest chat;
  bool shows_thoughts = true;  // else a thought is only said to have been there
};

// Within the bounds of `work`, which keeps what the request takes; null: without.
ApiResult<AnthropicRequest> parse_anthropic_request(std::string_view body, int32_t n_vocab,
                                                    RequestWork* work = nullptr);

// In the order of their names; docs/server.md shows them.
std::span<const FieldRule> anthropic_field_rules();

// Its parts:
// anthropic_tools.cc: tools, tool_choice.
ApiStatus read_anthropic_tools(const Fields& fields, ChatRequest& request);
// anthropic_messages.cc: system, messages.
ApiStatus read_anthropic_messages(const Fields& fields, ChatRequest& request, RequestWork& work);

}  // namespace odmoe::server
