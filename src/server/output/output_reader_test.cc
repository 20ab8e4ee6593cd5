#include "server/output/output_reader.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "server/output/testing_output.h"

namespace odmoe::server {
namespace {

using testing::read_all_ways;
using testing::WholeOutput;

std::shared_ptr<const Tools> weather_tools() {
  Tools tools;
  tools.push_back({.name = "get_weather",
                   .parameters = Json::parse(R"({"type":"object","properties":{"city":{"type":"string"},
                       "days":{"type":"integer"},"exact":{"type":"boolean"},
                       "limit":{"anyOf":[{"type":"integer"},{"type":"null"}]},
                       "place":{"$ref":"#/$defs/place"}},
                       "$defs":{"place":{"type":"object"}}})")});
  tools.push_back({.name = "clock", .parameters = nullptr});
  return std::make_shared<const Tools>(std::move(tools));
}

OutputReaderOptions of(std::string_view format, OutputStart start = OutputStart::kAnswer) {
  const OutputFormat* found = find_output_format(format);
  EXPECT_NE(found, nullptr) << format;
  return {.format = found, .start = start, .calls = true, .tools = weather_tools(), .id_prefix = "call_"};
}
WholeOutput read(std::string_view format, std::string_view text, OutputStart start = OutputStart::kAnswer) {
  SCOPED_TRACE(text);
  return read_all_ways(of(format, start), text);
}
// The arguments of the only call.
std::string arguments(const WholeOutput& whole) {
  EXPECT_EQ(whole.calls.size(), 1);
  return whole.calls.empty() ? "" : whole.calls[0].arguments;
}

std::string trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1));
}

// Names of formats, where they differ from those of the cases.
std::string format_of_family(const std::string& family) {
  if (family == "pythonic-llama-4") return "pythonic";
  if (family == "deepseek-v3-r1") return "deepseek-v3";
  return family;
}

TEST(OutputReader, CollectedOutputsOfAllFamiliesAreReadAsTheyAreMeant) {
  const char* shared = std::getenv("ODMOE_SHARED");
  const std::filesystem::path path =
      std::filesystem::path(shared == nullptr ? "" : shared) / "chat/tool_outputs.json";
  if (shared == nullptr || !std::filesystem::exists(path)) {
    GTEST_SKIP() << "ODMOE_SHARED does not name the folder with the outputs";
  }
  std::ifstream file(path);
  const Json cases = Json::parse(file);
  Tools tools;
  for (const Json& tool : cases["tools"]) {
    const Json& function = tool["function"];
    tools.push_back({.name = function["name"], .parameters = function["parameters"]});
  }
  const auto known = std::make_shared<const Tools>(std::move(tools));
  int n_case = 0;
  for (const Json& family : cases["families"]) {
    const OutputFormat* format = find_output_format(format_of_family(family["family"]));
    ASSERT_NE(format, nullptr) << family["family"];
    for (const Json& example : family["examples"]) {
      SCOPED_TRACE(family["family"].get<std::string>() + " " + example["name"].get<std::string>());
      const std::string raw = example["raw"];
      const bool in_thought = example.value("prompt_opens_thinking", false);
      const WholeOutput whole =
          read_all_ways({.format = format,
                         .start = in_thought ? OutputStart::kThought : OutputStart::kAnswer,
                         .calls = true,
                         .tools = known,
                         .id_prefix = "call_"},
                        raw);
      const Json& expected = example["expected"];
      const auto text = [&](const char* key) {
        return expected[key].is_null() ? std::string() : expected[key].get<std::string>();
      };
      EXPECT_EQ(trim(whole.content), trim(text("content"))) << raw;
      EXPECT_EQ(trim(whole.reasoning), trim(text("reasoning_content"))) << raw;
      const Json calls = expected.contains("tool_calls") && !expected["tool_calls"].is_null()
                             ? expected["tool_calls"]
                             : Json::array();
      ASSERT_EQ(whole.calls.size(), calls.size()) << raw;
      for (size_t i = 0; i < calls.size(); ++i) {
        EXPECT_EQ(whole.calls[i].name, calls[i]["function"]["name"].get<std::string>());
        // As unordered values: the order of members means nothing.
        EXPECT_EQ(nlohmann::json::parse(whole.calls[i].arguments),
                  nlohmann::json::parse(calls[i]["function"]["arguments"].get<std::string>()));
        if (calls[i].contains("id")) {
          EXPECT_EQ(whole.calls[i].id, calls[i]["id"].get<std::string>());
        }
      }
      ++n_case;
    }
  }
  EXPECT_GE(n_case, 190);
}

TEST(OutputReader, PlainTextIsContent) {
  OutputReaderOptions without = of("hermes");
  without.calls = false;
  EXPECT_EQ(read_all_ways(without, " Hello <tool_call> there\n").content, " Hello <tool_call> there\n");
  for (const OutputFormat& format : output_formats()) {
    if (format.name == "functionary-v3.2") continue;  // its answers begin with whom they are for
    EXPECT_EQ(read(format.name, "Hello, a < b <too\n\n").content, "Hello, a < b <too\n\n") << format.name;
    EXPECT_EQ(read(format.name, "").content, "");
    EXPECT_EQ(read(format.name, "1. <b>x</b> [1] {2}").content, "1. <b>x</b> [1] {2}") << format.name;
  }
}

TEST(OutputReader, ThoughtsAreKeptApart) {
  EXPECT_EQ(read("hermes", "<think>I wonder.\n</think>\n\nYes.").reasoning, "I wonder.\n");
  EXPECT_EQ(read("hermes", "<think>I wonder.\n</think>\n\nYes.").content, "Yes.");
  EXPECT_EQ(read("hermes", "I wonder.\n</think>\n\nYes.", OutputStart::kThought).content, "Yes.");
  EXPECT_EQ(read("hermes", "<think>\nI wonder.</think>Yes.", OutputStart::kThought).reasoning, "\nI wonder.");
  EXPECT_EQ(read("hermes", "never ends", OutputStart::kThought).reasoning, "never ends");
  EXPECT_EQ(read("hermes", "<thin").content, "<thin");
  EXPECT_EQ(read("hermes", "Of <think> I speak.").content, "Of <think> I speak.");
  EXPECT_EQ(read("gpt-oss", "I wonder.<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
                 OutputStart::kThought)
                .reasoning,
            "I wonder.");
  EXPECT_EQ(read("gpt-oss", "go on.", OutputStart::kContent).content, "go on.");
}

TEST(OutputReader, NothingIsLostOfACallThatIsNone) {
  for (const char* text : {"<tool_call>nonsense</tool_call>", "a<tool_call>{\"name\": \"x\", \"argum",
                           "<tool_call>{\"a\": 1}</tool_call>", "<tool_call>{\"name\": 3}</tool_call>",
                           "<tool_call>", "<tool_call> <tool_call>x"}) {
    const WholeOutput whole = read("hermes", text);
    EXPECT_EQ(whole.content, text);
    EXPECT_TRUE(whole.calls.empty());
  }
  EXPECT_EQ(read("kimi-k2", "<|tool_call_begin|>x").content, "<|tool_call_begin|>x");
  EXPECT_EQ(read("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=a>\n1").content,
            "<tool_call>\n<function=f>\n<parameter=a>\n1");
  EXPECT_EQ(read("gpt-oss", "<|channel|>commentary to=functions.f<|message|>{\"a\":").content,
            "<|channel|>commentary to=functions.f<|message|>{\"a\":");
  // One that is none does not hide the next.
  EXPECT_EQ(read("hermes", "<tool_call>{<tool_call>{\"name\": \"clock\"}</tool_call>").calls.size(), 1);
}

TEST(OutputReader, ACallWithinAThoughtCountsWhereTheThoughtDoesNotEnd) {
  const char* open = "So:\n<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>";
  const WholeOutput whole = read("hermes", open, OutputStart::kThought);
  EXPECT_EQ(whole.calls.size(), 1);
  EXPECT_EQ(trim(whole.reasoning), "So:");
  const std::string closed = std::string(open) + " or not.</think>No.";
  const WholeOutput thought = read("hermes", closed, OutputStart::kThought);
  EXPECT_TRUE(thought.calls.empty());
  EXPECT_EQ(thought.reasoning, std::string(open) + " or not.");
  EXPECT_EQ(thought.content, "No.");
  const WholeOutput kimi = read("kimi-k2",
                                "<think>Hm.<|tool_calls_section_begin|><|tool_call_begin|>functions.clock:0"
                                "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>");
  EXPECT_EQ(kimi.calls.size(), 1);
  EXPECT_EQ(kimi.reasoning, "Hm.");
  EXPECT_EQ(kimi.content, "");
}

TEST(OutputReader, MarksWithinArgumentsAreText) {
  EXPECT_EQ(arguments(read(
                "hermes", R"(<tool_call>{"name": "f", "arguments": {"x": "</tool_call> {\""}}</tool_call>)")),
            R"({"x":"</tool_call> {\""})");
  EXPECT_EQ(
      arguments(read("qwen3-coder",
                     "<tool_call>\n<function=f>\n<parameter=x>\n</tool_call> </function>\n</parameter>\n"
                     "</function>\n</tool_call>")),
      R"({"x":"</tool_call> </function>"})");
  EXPECT_EQ(arguments(read("mistral-v11", R"([TOOL_CALLS]f[ARGS]{"x": "[TOOL_CALLS]g[ARGS]{}"})")),
            R"({"x": "[TOOL_CALLS]g[ARGS]{}"})");
  EXPECT_EQ(arguments(read("pythonic", R"([clock(x=")]", y='(\'')])")), R"({"x":")]","y":"('"})");
}

TEST(OutputReader, TheMarkBehindACallMayBeMissing) {
  for (const auto& [format, text] : std::initializer_list<std::pair<const char*, const char*>>{
           {"hermes", "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}"},
           {"hermes", "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_c"},
           {"kimi-k2", "<|tool_call_begin|>functions.clock:0<|tool_call_argument_begin|>{}"},
           {"deepseek-v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>clock\n```json\n{}\n```"},
           {"deepseek-v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>clock\n```json\n{}"},
           {"gpt-oss", "<|channel|>commentary to=functions.clock <|constrain|>json<|message|>{}"}}) {
    const WholeOutput whole = read(format, text);
    ASSERT_EQ(whole.calls.size(), 1) << text;
    EXPECT_EQ(whole.calls[0].name, "clock");
    EXPECT_EQ(trim(whole.content), "");
  }
  EXPECT_EQ(arguments(read("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n")),
            R"({"x":1})");
  EXPECT_EQ(arguments(read("glm-4.5", "<tool_call>f\n<arg_key>x</arg_key>\n<arg_value>1</arg_value>")),
            R"({"x":1})");
}

TEST(OutputReader, OtherSpellingsOfAFamilyAreRead) {
  const auto one = [](const char* format, const char* text, const char* wanted) {
    const WholeOutput whole = read(format, text);
    ASSERT_EQ(whole.calls.size(), 1) << text;
    EXPECT_EQ(whole.calls[0].name, "get_weather");
    EXPECT_EQ(Json::parse(whole.calls[0].arguments), Json::parse(wanted));
    EXPECT_EQ(whole.content, "");
  };
  const char* rome = R"({"city": "Rome"})";
  one("kimi-k2",
      "<|tool_call_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
      "{\"city\": \"Rome\"}<|tool_call_end|><|tool_call_section_end|>",
      rome);
  one("kimi-k2",
      "<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>\"{\\\"city\\\": \\\"Rome\\\"}\""
      "<|tool_call_end|>",
      rome);
  one("kimi-k2", "<|tool_call_begin|>get_weather<|tool_call_argument_begin|><|tool_call_end|>", "{}");
  one("deepseek-v3.1",
      "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
      "\"Rome\"}\n```<｜tool▁call▁end｜>",
      rome);
  one("deepseek-v3", "<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Rome\"}<｜tool▁call▁end｜>",
      rome);
  one("hermes", R"(<tool_call>{"name": "get_weather", "arguments": "{\"city\": \"Rome\"}"}</tool_call>)",
      rome);
  one("hermes", R"(<tool_call>{"name": "get_weather", "parameters": {"city": "Rome"}}</tool_call>)", rome);
  one("hermes", R"(<tool_call>[{"name": "get_weather", "arguments": {"city": "Rome"}}]</tool_call>)", rome);
  one("hermes", "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"a\nb\"}}",
      R"({"city": "a\nb"})");
  one("mistral-v11", R"([TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}])", rome);
  one("qwen3-coder", "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>", rome);
  one("qwen3-coder",
      "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</tool_call>", rome);
  one("gemma-4", R"(<|tool_call>call:get_weather{"city": "Rome"}<tool_call|>)", rome);
  one("llama-3", R"({"type": "function", "name": "get_weather", "parameters": {"city": "Rome"}})", rome);
}

TEST(OutputReader, AnAnswerWithoutMarksIsACallOnlyOfAToolAndAsAWhole) {
  for (const char* text :
       {R"({"name": "Ada", "parameters": {"born": 1815}})",
        R"({"name": "clock", "parameters": {}} is a call.)",
        R"({"name": "clock", "parameters": {}}; and so on)", R"([1, 2])", R"({"name": "clock")"}) {
    EXPECT_EQ(read("llama-3", text).content, text);
    EXPECT_TRUE(read("llama-3", text).calls.empty());
  }
  EXPECT_EQ(read("pythonic", "[f(x=1)]").content, "[f(x=1)]");
  EXPECT_EQ(read("pythonic", "[]").content, "[]");
}

TEST(OutputReader, ArgumentsThatAreTextHaveTheTypesOfTheSchema) {
  EXPECT_EQ(arguments(read(
                "minimax-m2",
                "<minimax:tool_call><invoke name=\"get_weather\"><parameter name=\"city\">12</parameter>"
                "<parameter name=\"days\">3</parameter><parameter name=\"exact\">True</parameter>"
                "<parameter name=\"limit\">null</parameter><parameter name=\"place\">{\"a\": 1}</parameter>"
                "<parameter name=\"other\">[1]</parameter><parameter name=\"word\">so</parameter>"
                "</invoke></minimax:tool_call>")),
            R"({"city":"12","days":3,"exact":true,"limit":null,"place":{"a":1},"other":[1],"word":"so"})");
  // One that is not of its type comes as it is.
  EXPECT_EQ(
      arguments(read("glm-4.7",
                     "<tool_call>get_weather<arg_key>days</arg_key><arg_value>two</arg_value></tool_call>")),
      R"({"days":"two"})");
  EXPECT_EQ(arguments(read(
                "deepseek-v3.2",
                "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"n\" "
                "string=\"false\">3</｜DSML｜parameter>\n"
                "<｜DSML｜parameter name=\"s\" string=\"true\">3</｜DSML｜parameter>\n</｜DSML｜invoke>")),
            R"({"n":3,"s":"3"})");
}

TEST(OutputReader, CallsAreNumberedAndTextAroundThemIsKept) {
  const WholeOutput whole =
      read("hermes",
           "One.\n<tool_call>{\"name\": \"clock\"}</tool_call>\n<tool_call>{\"name\": \"clock\"}"
           "</tool_call>\nTwo.");
  ASSERT_EQ(whole.calls.size(), 2);
  EXPECT_EQ(whole.calls[0].id, "call_0");
  EXPECT_EQ(whole.calls[1].id, "call_1");
  EXPECT_EQ(whole.calls[0].arguments, "{}");
  EXPECT_EQ(whole.content, "One.Two.");
}

TEST(OutputReader, TextThatLooksLikeCallsOverAndOverTakesTimeInProportion) {
  // What is read again is bounded; without that this would take hours.
  std::string text;
  while (text.size() < (1 << 20)) text += "<function=f>\n<parameter=x>\n";
  const auto reader = make_output_reader(of("qwen3-coder"));
  size_t n = reader->push(text).content.size();
  n += reader->finish().content.size();
  EXPECT_EQ(n, text.size());
}

}  // namespace
}  // namespace odmoe::server
