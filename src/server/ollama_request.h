// Ollama's words for what is to be generated: the bodies of /api/chat and /api/generate.
//
// What is honoured is read as Ollama defines it, with its defaults, and with the leniency of request.h.
// Beside its own options those that choose tokens are honoured by the names that /v1/chat/completions has for
// them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "server/api_error.h"
#include "server/generation_request.h"
#include "server/request_fields.h"
#include "server/request_memory.h"

namespace odmoe::server {

struct OllamaRequest {
  GenerationRequest generation;
  bool only_loads = false;  // it asks for the model to be there, and for no text
};

// Within the bounds of `work`, which keeps what the request takes; null: without.
ApiResult<OllamaRequest> parse_ollama_chat(std::string_view body, int32_t n_vocab,
                                           RequestWork* work = nullptr);
ApiResult<OllamaRequest> parse_ollama_generate(std::string_view body, int32_t n_vocab,
                                               RequestWork* work = nullptr);

// In the order of their names; docs/server.md shows them.
std::span<const FieldRule> ollama_chat_rules();
std::span<const FieldRule> ollama_generate_rules();
std::span<const FieldRule> ollama_option_rules();  // of the member options

}  // namespace odmoe::server
