// Bodies of requests as a hostile client would write them.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/base64.h"
#include "grammar/automaton.h"
#include "grammar/json_schema.h"
#include "model/tokenizer/built_in_templates.h"
#include "model/tokenizer/jinja_chat_template.h"
#include "server/anthropic_request.h"
#include "server/call_arguments.h"
#include "server/ollama_request.h"
#include "server/request.h"
#include "server/responses/responses_request.h"
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

const std::vector<std::unique_ptr<ChatTemplate>>& built_in_templates() {
  static const auto templates = [] {
    std::vector<std::unique_ptr<ChatTemplate>> all;
    for (const std::string_view name : {"chatml", "kimi-k2", "deepseek-v2", "deepseek-v3"}) {
      const ChatTemplateChoice choice{.source = std::string(built_in_chat_template(name))};
      all.push_back(make_chat_template(choice, {{"bos_token", "<s>"}}).value());
    }
    return all;
  }();
  return templates;
}

// As it would be put into a prompt, and its calls as answers have them.
void render(const Conversation& conversation) {
  for (const auto& chat_template : built_in_templates()) (void)chat_template->render(conversation);
  for (const ChatTurn& turn : conversation.turns) {
    for (const ChatToolCall& call : turn.tool_calls) {
      if (!arguments_object(call).is_object()) __builtin_trap();
    }
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

// What is kept of a request can be gone on from: it is read as it was.
void read_responses(std::string_view text) {
  constexpr int32_t kVocab = 1000;
  const auto store = std::make_shared<ResponseStore>(1 << 20);
  auto request = parse_responses_request(text, kVocab, store);
  if (!request.has_value()) return;
  if (!nlohmann::json::accept("{" + request->settings.echo.substr(1) + "}")) __builtin_trap();
  if (request->settings.store == nullptr || !request->settings.previous.empty()) return;
  StoredResponse kept = {.id = "resp_a",
                         .owner = request->settings.owner,
                         .previous = "",
                         .input = request->settings.input,
                         .output = {},
                         .head = "",
                         .tail = ""};
  if (!store->put(std::move(kept))) return;
  const auto next = parse_responses_request(R"({"previous_response_id":"resp_a"})", kVocab, store);
  if (!next.has_value()) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int32_t kVocab = 1000;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 9) {
    case 0:
      (void)parse_completion_request(text, kVocab);
      break;
    case 1: {
      const auto request = parse_chat_request(text, kVocab);
      if (request.has_value()) render(request->conversation);
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
    case 5:
      read_responses(text);
      break;
    case 6: {
      const auto request = parse_anthropic_request(text, kVocab);
      if (request.has_value()) render(request->chat.conversation);
      break;
    }
    case 7:
    case 8: {
      const auto request =
          data[0] % 9 == 7 ? parse_ollama_chat(text, kVocab) : parse_ollama_generate(text, kVocab);
      if (!request.has_value()) break;
      if (const auto* chat = std::get_if<ChatRequest>(&request->generation)) render(chat->conversation);
      break;
    }
    default:
      (void)decode_base64(text, 1000);
  }
  return 0;
}
