// JSON schemas and regular expressions as a hostile client would write them.  Whatever their grammar is, who
// follows it never comes to where nothing fits, and what may end is JSON.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"

namespace {

using Json = nlohmann::ordered_json;
using odmoe::grammar::Automaton;

void follow(const Json& schema, std::string_view choices) {
  const auto grammar = odmoe::grammar::json_schema_grammar(schema);
  if (!grammar.has_value()) {
    if (grammar.error().message.empty()) __builtin_trap();
    return;
  }
  if ((*grammar)->bytes() > odmoe::grammar::Grammar::kMaxBytes) __builtin_trap();
  Automaton automaton(*grammar);
  std::string written;
  int32_t state = automaton.start();
  for (size_t step = 0; step < 200; ++step) {
    if (automaton.accepts(state) && !Json::accept(written)) __builtin_trap();
    const auto first = static_cast<uint8_t>(choices.empty() ? step * 37 : choices[step % choices.size()]);
    int32_t next = Automaton::kDead;
    for (int i = 0; i < 256 && next == Automaton::kDead; ++i) {
      const auto byte = static_cast<uint8_t>(first + i);
      next = automaton.next(state, byte);
      if (next != Automaton::kDead) written += static_cast<char>(byte);
    }
    if (next == Automaton::kDead) {
      if (!automaton.accepts(state)) __builtin_trap();
      return;
    }
    state = next;
    if (automaton.bytes() > size_t{8} << 20U) automaton.flush(std::span(&state, 1));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    const Json schema = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!schema.is_discarded()) follow(schema, text);
  } else {
    // Its first byte says how long the string may be.
    const Json pattern =
        Json::parse(Json(text.substr(1)).dump(-1, ' ', false, Json::error_handler_t::replace));
    follow({{"type", "string"}, {"pattern", pattern}, {"maxLength", static_cast<uint8_t>(text[0])}}, text);
  }
  return 0;
}
