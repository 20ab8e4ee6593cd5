#include "server/output/output_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <unordered_map>

#include "grammar/automaton.h"
#include "server/json_guard.h"
#include "server/output/testing_output.h"

namespace odmoe::server {
namespace {

using grammar::Automaton;
using ::testing::HasSubstr;

class OutputGrammarTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                .memory = parse_memory_budget("50%").value(),
                                .context = 64,
                                .threads = 1};
    engine_ = Engine::open(options).value().release();
  }
  static void TearDownTestSuite() {
    delete engine_;
    engine_ = nullptr;
  }

  // Some text of the grammar: at random for a while, then the shortest end.
  static std::string text_of(const std::shared_ptr<const grammar::Grammar>& grammar, uint32_t seed) {
    Automaton automaton(grammar);
    std::mt19937 random(seed);
    std::string text;
    int32_t state = automaton.start();
    const size_t n_random = random() % 60;
    const auto step = [&](int32_t from, uint8_t byte) { return automaton.next(from, byte); };
    for (size_t i = 0; i < n_random; ++i) {
      std::string may;
      for (const char c : kBytes) {
        if (step(state, static_cast<uint8_t>(c)) != Automaton::kDead) may += c;
      }
      if (may.empty()) break;
      const char c = may[random() % may.size()];
      state = step(state, static_cast<uint8_t>(c));
      text += c;
    }
    return text + shortest_end(automaton, state);
  }

  static constexpr std::string_view kBytes =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-:;,.<>{}[]()|/\\\"'`= "
      "\n\xE2\x81\x96\x9C\xEF\xBD";

  static std::string shortest_end(Automaton& automaton, int32_t state) {
    std::unordered_map<int32_t, std::pair<int32_t, char>> from = {{state, {-1, 0}}};
    std::deque<int32_t> next = {state};
    while (!next.empty()) {
      int32_t at = next.front();
      next.pop_front();
      if (automaton.accepts(at)) {
        std::string end;
        for (; from[at].first >= 0; at = from[at].first) end.insert(end.begin(), from[at].second);
        return end;
      }
      for (const char c : kBytes) {
        const int32_t to = automaton.next(at, static_cast<uint8_t>(c));
        if (to != Automaton::kDead && from.emplace(to, std::pair(at, c)).second) next.push_back(to);
      }
    }
    ADD_FAILURE() << "no end";
    return {};
  }

  static ChatRequest request(bool parallel = true) {
    ChatRequest request;
    request.tools.push_back(
        {.name = "get_weather", .parameters = Json::parse(R"({"type":"object","properties":{
        "city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":9},
        "unit":{"enum":["celsius","kelvin"]},"place":{"$ref":"#/$defs/place"}},
        "required":["city","unit"],
        "$defs":{"place":{"type":"object","properties":{"x":{"type":"boolean"}},"required":["x"],
        "additionalProperties":false}}})")});
    // Any object would have endless ways.
    request.tools.push_back(
        {.name = "clock", .parameters = Json::parse(R"({"type":"object","additionalProperties":false})")});
    request.tool_choice.kind = ToolChoice::Kind::kRequired;
    request.parallel_tool_calls = parallel;
    return request;
  }

  static Engine* engine_;
};
Engine* OutputGrammarTest::engine_ = nullptr;

TEST_F(OutputGrammarTest, WhatTheGrammarOfAFormatLetsBeWrittenItsReaderReadsAsCalls) {
  for (const OutputFormat& format : output_formats()) {
    if (!format.calls) continue;
    for (const OutputStart start : {OutputStart::kAnswer, OutputStart::kThought}) {
      if (start == OutputStart::kThought && format.thought_close.empty()) continue;
      const ChatRequest asked = request();
      const auto grammar =
          grammar_of(*engine_, asked, {.format = &format, .start = start, .may_think = true});
      ASSERT_TRUE(grammar.has_value()) << format.name << ": " << grammar.error().message;
      for (uint32_t seed = 0; seed < 12; ++seed) {
        const std::string text = text_of(*grammar, seed);
        SCOPED_TRACE(std::string(format.name) + ": " + text);
        const testing::WholeOutput whole =
            testing::read_pieces({.format = &format,
                                  .start = start,
                                  .calls = true,
                                  .tools = std::make_shared<const Tools>(asked.tools),
                                  .id_prefix = "call_"},
                                 {text});
        EXPECT_EQ(whole.content.find_first_not_of(" \n"), std::string::npos) << whole.content;
        ASSERT_FALSE(whole.calls.empty());
        for (const ChatToolCall& call : whole.calls) {
          const auto arguments = parse_json(call.arguments);
          ASSERT_TRUE(arguments.has_value() && arguments->is_object()) << call.arguments;
          if (call.name == "clock") continue;
          ASSERT_EQ(call.name, "get_weather");
          ASSERT_TRUE(arguments->contains("city") && (*arguments)["city"].is_string()) << call.arguments;
          EXPECT_TRUE((*arguments)["unit"] == "celsius" || (*arguments)["unit"] == "kelvin")
              << call.arguments;
          if (arguments->contains("days")) {
            ASSERT_TRUE((*arguments)["days"].is_number_integer()) << call.arguments;
            EXPECT_GE((*arguments)["days"], 1);
            EXPECT_LE((*arguments)["days"], 9);
          }
          if (arguments->contains("place")) {
            EXPECT_TRUE((*arguments)["place"]["x"].is_boolean());
          }
        }
      }
    }
  }
}

TEST_F(OutputGrammarTest, AFormComesBehindTheThought) {
  for (const OutputFormat& format : output_formats()) {
    for (const OutputStart start : {OutputStart::kAnswer, OutputStart::kThought, OutputStart::kContent}) {
      if (start == OutputStart::kThought && format.thought_close.empty()) continue;
      ChatRequest asked;
      asked.form = {.kind = AnswerForm::Kind::kSchema,
                    .schema = Json::parse(R"({"type":"object","properties":{"a":{"type":"integer"}},
                                              "required":["a"],"additionalProperties":false})"),
                    .param = "response_format"};
      const auto grammar =
          grammar_of(*engine_, asked, {.format = &format, .start = start, .may_think = true});
      ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
      for (uint32_t seed = 0; seed < 6; ++seed) {
        const std::string text = text_of(*grammar, seed);
        SCOPED_TRACE(std::string(format.name) + ": " + text);
        const testing::WholeOutput whole = testing::read_pieces(
            {.format = &format, .start = start, .tools = nullptr, .id_prefix = "call_"}, {text});
        const auto json = parse_json(whole.content);
        ASSERT_TRUE(json.has_value() && (*json)["a"].is_number()) << whole.content;
      }
    }
  }
}

TEST_F(OutputGrammarTest, AThoughtIsFreeButForItsEnd) {
  ChatRequest asked = request();
  const GrammarPlace place{.format = find_output_format("hermes"), .start = OutputStart::kThought};
  const auto grammar = grammar_of(*engine_, asked, place).value();
  Automaton automaton(grammar);
  int32_t state = automaton.start();
  const auto write = [&](std::string_view text) {
    for (const char c : text) {
      state = automaton.next(state, static_cast<uint8_t>(c));
      if (state == Automaton::kDead) return false;
    }
    return true;
  };
  EXPECT_TRUE(write("Hm {\"name\": <think> </thinn </</think \xFF \n"));
  EXPECT_FALSE(automaton.accepts(state)) << "a call must come";
  EXPECT_TRUE(write("</think>\n\n<tool_call>\n{\"name\": \"clock\", \"arguments\": {"));
  EXPECT_TRUE(write("}}\n</tool_call>"));
  EXPECT_TRUE(automaton.accepts(state));
  state = automaton.start();
  EXPECT_TRUE(write("</</think>"));
  EXPECT_FALSE(write("x"));
}

TEST_F(OutputGrammarTest, OnlyTheNamedToolAndOneCallWhereThatIsAsked) {
  ChatRequest asked = request(/*parallel=*/false);
  const GrammarPlace place{.format = find_output_format("kimi-k2")};
  const auto takes = [&](std::string_view text) {
    const auto grammar = grammar_of(*engine_, asked, place).value();
    Automaton automaton(grammar);
    int32_t state = automaton.start();
    for (const char c : text) {
      if (state != Automaton::kDead) state = automaton.next(state, static_cast<uint8_t>(c));
    }
    return state != Automaton::kDead && automaton.accepts(state);
  };
  const std::string open = "<|tool_calls_section_begin|>", close = "<|tool_calls_section_end|>";
  const std::string clock =
      "<|tool_call_begin|>functions.clock:0<|tool_call_argument_begin|>{}<|tool_call_end|>";
  EXPECT_TRUE(takes(open + clock + close));
  EXPECT_FALSE(takes(open + clock + clock + close));
  asked.parallel_tool_calls = true;
  EXPECT_TRUE(takes(open + clock + clock + close));
  asked.tool_choice = {.kind = ToolChoice::Kind::kNamed, .name = "get_weather"};
  EXPECT_FALSE(takes(open + clock + close));
}

TEST_F(OutputGrammarTest, ASchemaThatIsOfNoObjectIsRefusedByItsPlace) {
  for (const char* format : {"hermes", "qwen3-coder", "pythonic"}) {
    ChatRequest asked = request();
    asked.tools[1].parameters = Json::parse(R"({"type":"string"})");
    const auto grammar = grammar_of(*engine_, asked, {.format = find_output_format(format)});
    ASSERT_FALSE(grammar.has_value());
    EXPECT_EQ(grammar.error().param, "tools[1].function.parameters.type");
    EXPECT_THAT(grammar.error().message, HasSubstr("schema of an object"));
  }
}

}  // namespace
}  // namespace odmoe::server
