// Reads schemas, one JSON value a line: {"schema": ..., "seed": n, "texts": n, "valid": [...]}; writes for
// each what was written by chance under its grammar and which of the valid values the grammar does not take:
// {"texts": [...], "refused": [...]}, or {"error": "..."}.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/json_schema.h"

namespace {

using Json = nlohmann::ordered_json;
using odmoe::grammar::Automaton;

constexpr int kMostBytes = 4000;
constexpr size_t kMostStates = 20'000;

bool takes(Automaton& automaton, const std::string& text) {
  int32_t state = automaton.start();
  for (const char c : text) {
    state = automaton.next(state, static_cast<uint8_t>(c));
    if (state == Automaton::kDead) return false;
  }
  return automaton.accepts(state);
}

// What may follow, drawn by chance; after a while what ends texts first.
Json written(Automaton& automaton, std::mt19937& random) {
  std::string text;
  int32_t state = automaton.start();
  const auto patience = static_cast<size_t>(random() % 300);
  for (int step = 0; step < kMostBytes; ++step) {
    if (automaton.accepts(state) && (!automaton.goes_on(state) || random() % 4 == 0)) return text;
    std::vector<uint8_t> may;
    for (int byte = 0; byte < 256; ++byte) {
      if (automaton.next(state, static_cast<uint8_t>(byte)) != Automaton::kDead) {
        may.push_back(static_cast<uint8_t>(byte));
      }
    }
    if (may.empty()) return Json{{"stuck_behind", text}};
    uint8_t drawn = may[random() % may.size()];
    for (const char end : std::string("\"}]0,")) {
      if (text.size() > patience && random() % 8 != 0 &&
          std::ranges::contains(may, static_cast<uint8_t>(end))) {
        drawn = static_cast<uint8_t>(end);
        break;
      }
    }
    text += static_cast<char>(drawn);
    state = automaton.next(state, drawn);
    if (automaton.n_state() > kMostStates) automaton.flush(std::span(&state, 1));
  }
  return nullptr;  // it goes on and on
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const Json request = Json::parse(line);
    const auto grammar = odmoe::grammar::json_schema_grammar(request["schema"]);
    Json answer;
    if (grammar.has_value()) {
      std::mt19937 random(request["seed"].get<uint32_t>());
      answer = {{"texts", Json::array()}, {"refused", Json::array()}};
      for (int i = 0; i < request["texts"].get<int>(); ++i) {
        Automaton automaton(*grammar);
        const Json text = written(automaton, random);
        if (!text.is_null()) answer["texts"].push_back(text);
      }
      Automaton automaton(*grammar);
      for (const Json& value : request["valid"]) {
        if (!takes(automaton, value.dump()) || !takes(automaton, value.dump(2)))
          answer["refused"].push_back(value);
      }
    } else {
      answer = {{"error", grammar.error().message}};
    }
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  }
  return 0;
}
