// Bodies of requests as a hostile client would write them, and what the model says as a hostile model would.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"
#include "server/assistant_text.h"
#include "server/request.h"
#include "server/vision.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;

void follow(const std::shared_ptr<const grammar::Grammar>& grammar) {
  // The first of what may follow, for a while: the automaton must get by whatever the schema is.
  grammar::Automaton automaton(grammar);
  int32_t state = automaton.start();
  for (int step = 0; step < 64 && state != grammar::Automaton::kDead; ++step) {
    int32_t next = grammar::Automaton::kDead;
    for (int byte = 0; byte < 256 && next == grammar::Automaton::kDead; ++byte) {
      next = automaton.next(state, static_cast<uint8_t>((byte + step * 37) & 0xFF));
    }
    state = next;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int32_t kVocab = 1000;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      (void)parse_completion_request(text, kVocab);
      break;
    case 1:
      (void)parse_chat_request(text, kVocab);
      break;
    case 2:
      (void)parse_tokenize_request(text);
      (void)parse_detokenize_request(text, kVocab);
      break;
    case 3: {
      const auto json = parse_json(text);
      if (!json.has_value()) break;
      const auto grammar = grammar::json_schema_grammar(*json);
      if (grammar.has_value()) follow(*grammar);
      break;
    }
    case 4:
      (void)decode_base64(text, 1000);
      break;
    default: {
      const auto syntax = static_cast<ToolCallSyntax>(data[0] / 6 % 5);
      AssistantText parser(syntax, data[0] > 127, "call_");
      size_t told = 0;
      for (size_t at = 0; at < text.size(); at += 7) told += parser.push(text.substr(at, 7)).content.size();
      told += parser.finish().content.size();
      if (told > text.size() + 1) __builtin_trap();
    }
  }
  return 0;
}
