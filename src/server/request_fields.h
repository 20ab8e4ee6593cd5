// Which fields of a request are honoured, which change nothing, and which would change the answer and are
// therefore refused by name unless their value says that they are off: one table of what the APIs that speak
// OpenAI's have (OpenAI, vLLM, llama.cpp, SGLang, TGI, Ollama, OpenRouter, Mistral and others).
//
// A field that is not in the table is unknown to all of them, and passed over.  docs/server.md shows the
// table.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
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

// The same for a dialect with words of its own: `own`, sorted by name, are the fields that it knows.  Others
// are refused or passed over as those of a chat are, and refused where only that honours them.  `prefix`:
// where the object stands, as of Fields; `elsewhere`: what to do with a field that only a chat has.
ApiStatus check_fields(const Json& object, std::span<const FieldRule> own, std::string_view prefix = "",
                       std::string_view elsewhere = "it is a field of /v1/chat/completions");
// 400 that names the first member of an object within a request that is not one of these; `name`: what the
// object is called.
ApiStatus check_members(const Json& object, std::initializer_list<std::string_view> known,
                        const std::string& name);
// A rule of such a table.
constexpr FieldRule own_rule(std::string_view name, FieldRule::Treatment treatment, std::string_view off = "",
                             std::string_view note = "") {
  return {.name = name,
          .treatment = treatment,
          .in_completions = true,
          .in_chat = true,
          .off = off,
          .note = note};
}

}  // namespace odmoe::server
