// Bodies of requests as a hostile client would write them, and what the model says as a hostile model would.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/base64.h"
#include "grammar/automaton.h"
#include "grammar/json_schema.h"
#include "model/tokenizer/chat_template.h"
#include "server/assistant_text.h"
#include "server/request.h"
#include "server/vision.h"

namespace {

using namespace odmoe;
using namespace odmoe::server;

// A number that may end here is within the schema's bounds, for a reader of doubles too.
void check_number(const nlohmann::ordered_json& schema, const std::string& written) {
  if (!schema.is_object() || !schema.contains("type")) return;
  if (schema["type"] != "number" && schema["type"] != "integer") return;
  const auto number = nlohmann::json::parse(written).get<double>();
  if (std::abs(number) > 9e15) return;  // doubles do not tell such integers apart
  const auto breaks = [&](const char* keyword, auto wrong) {
    return schema.contains(keyword) && wrong(number, schema[keyword].get<double>());
  };
  if (breaks("minimum", std::less<>()) || breaks("maximum", std::greater<>()) ||
      breaks("exclusiveMinimum", std::less_equal<>()) || breaks("exclusiveMaximum", std::greater_equal<>())) {
    __builtin_trap();
  }
}

void follow(const std::shared_ptr<const grammar::Grammar>& grammar, const nlohmann::ordered_json& schema) {
  // The first of what may follow, for a while: the automaton must get by whatever the schema is.
  std::string written;
  grammar::Automaton automaton(grammar);
  int32_t state = automaton.start();
  for (int step = 0; step < 64 && state != grammar::Automaton::kDead; ++step) {
    int32_t next = grammar::Automaton::kDead;
    for (int byte = 0; byte < 256 && next == grammar::Automaton::kDead; ++byte) {
      const auto tried = static_cast<uint8_t>((byte + step * 37) & 0xFF);
      next = automaton.next(state, tried);
      if (next != grammar::Automaton::kDead) written += static_cast<char>(tried);
    }
    state = next;
    if (state != grammar::Automaton::kDead && automaton.accepts(state)) check_number(schema, written);
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
    case 1: {
      const auto request = parse_chat_request(text, kVocab);
      if (!request.has_value()) break;
      for (const ChatFamily family :
           {ChatFamily::kChatMl, ChatFamily::kKimiK2, ChatFamily::kDeepSeekV2, ChatFamily::kDeepSeekV3}) {
        (void)render_chat(family, "", request->conversation);
      }
      break;
    }
    case 2:
      (void)parse_tokenize_request(text);
      (void)parse_detokenize_request(text, kVocab);
      break;
    case 3: {
      const auto json = parse_json(text);
      if (!json.has_value()) break;
      const auto grammar = grammar::json_schema_grammar(*json);
      if (grammar.has_value()) follow(*grammar, *json);
      break;
    }
    case 4:
      (void)decode_base64(text, 1000);
      break;
    default: {
      const auto syntax = static_cast<ToolCallSyntax>(data[0] / 6 % 5);
      using Start = AssistantText::Start;
      AssistantText parser(syntax, data[0] > 127 ? Start::kThought : Start::kAnswer, "call_");
      size_t told = 0;
      for (size_t at = 0; at < text.size(); at += 7) told += parser.push(text.substr(at, 7)).content.size();
      told += parser.finish().content.size();
      if (told > text.size() + 1) __builtin_trap();
    }
  }
  return 0;
}
