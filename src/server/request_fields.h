// Which fields of a request are honoured, which change nothing, and which would change the answer and are
// therefore refused by name unless their value says that they are off: one table of what the APIs that speak
// OpenAI's have (OpenAI, vLLM, llama.cpp, SGLang, TGI, Ollama, OpenRouter, Mistral and others).
//
// A field that is not in the table is unknown to all of them, and passed over.  docs/server.md shows the
// table.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "server/api_error.h"
#include "server/json_guard.h"

namespace odmoe::server {

enum class Endpoint : uint8_t { kCompletions, kChat };

struct FieldRule {
  enum class Treatment : uint8_t { kHonoured, kHarmless, kRefused };
  std::string_view name;
  Treatment treatment;
  bool in_completions, in_chat;  // where it is treated so; elsewhere it is passed over
  std::string_view
      off;  // of kRefused: values that are taken beside null, "" and [], as a JSON list; may be empty
  std::string_view note;  // of kRefused: what to do instead; of kHarmless: why; may be empty
};

// In the order of their names; one name may stand twice, once for each endpoint.
std::span<const FieldRule> field_rules();

// 400 that names the first field that is refused.  `body` is an object.
ApiStatus check_fields(const Json& body, Endpoint endpoint);

}  // namespace odmoe::server
