#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>

#include "model/tokenizer/built_in_templates.h"
#include "server/json_guard.h"
#include "server/output/output_format.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(OutputFormats, EachIsWholeAndHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (const OutputFormat& format : output_formats()) {
    EXPECT_TRUE(names.insert(format.name).second) << format.name;
    EXPECT_EQ(find_output_format(format.name), &format);
    EXPECT_EQ(format.thought_open.empty(), format.thought_close.empty()) << format.name;
    if (!format.calls) continue;
    EXPECT_FALSE(format.example.empty()) << format.name;
    EXPECT_FALSE(format.found_by.empty()) << format.name;
    const CallSyntax& calls = *format.calls;
    EXPECT_FALSE(calls.open.empty() && calls.list_open.empty()) << format.name;
    if (calls.form == CallSyntax::Form::kNamed) {
      EXPECT_FALSE(calls.header.empty() || calls.header_end.empty()) << format.name;
    }
    if (calls.form == CallSyntax::Form::kParameters) {
      EXPECT_FALSE(calls.parameters.open.empty() || calls.parameters.key_end.empty() ||
                   calls.parameters.close.empty() || calls.close.empty())
          << format.name;
    }
  }
  EXPECT_EQ(find_output_format("no such"), nullptr);
}

TEST(OutputFormats, TheDocumentationListsThem) {
  const std::string documentation = read_file(fs::path(ODMOE_SOURCE_DIR) / "docs/server.md");
  for (const OutputFormat& format : output_formats()) {
    if (format.calls) {
      EXPECT_TRUE(documentation.contains("`" + std::string(format.name) + "`")) << format.name;
    }
  }
}

TEST(OutputFormats, TheTemplateSaysTheFormat) {
  EXPECT_EQ(output_of_template("").format->name, "plain");
  EXPECT_FALSE(output_of_template("{{ messages }}").format->calls.has_value());
  EXPECT_EQ(output_of_template("<|im_start|>{{ role }}").format->name, "hermes");
  EXPECT_FALSE(output_of_template("<|im_start|>{{ role }}").thinks);
  EXPECT_TRUE(output_of_template("<|im_start|>assistant\\n<think>\\n").thinks);
  // A model whose architecture is shared by both.
  EXPECT_EQ(output_of_template("<tool_call>\n{\"name\": <function-name>").format->name, "hermes");
  EXPECT_EQ(output_of_template("<tool_call>\n<function=example>\n<parameter=a>").format->name, "qwen3-coder");
}

TEST(OutputFormats, TheBuiltInTemplatesAreOfKnownOnes) {
  const auto name = [](std::string_view built_in) {
    return output_of_template(built_in_chat_template(built_in)).format->name;
  };
  EXPECT_EQ(name("chatml"), "hermes");
  EXPECT_EQ(name("kimi-k2"), "kimi-k2");
  EXPECT_EQ(name("deepseek-v3"), "deepseek-v3");
  EXPECT_EQ(name("deepseek-v2"), "plain");
}

TEST(OutputFormats, ControlTokensOfMarksAreSeen) {
  const OutputFormat& harmony = *find_output_format("gpt-oss");
  for (const char* token : {"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|constrain|>"}) {
    EXPECT_TRUE(is_mark(harmony, token)) << token;
  }
  EXPECT_FALSE(is_mark(harmony, "<|endoftext|>"));
  EXPECT_FALSE(is_mark(harmony, ""));
  EXPECT_TRUE(is_mark(*find_output_format("mistral-v11"), "[ARGS]"));
  EXPECT_TRUE(is_mark(*find_output_format("gemma-4"), "<|\"|>"));
  EXPECT_TRUE(is_mark(*find_output_format("kimi-k2"), "<|tool_call_argument_begin|>"));
  EXPECT_FALSE(is_mark(*find_output_format("hermes"), "<|im_end|>"));
}

TEST(OutputFormats, PublishedTemplatesAreOfTheFormatsOfTheirModels) {
  const char* shared = std::getenv("ODMOE_SHARED");
  const fs::path folder = fs::path(shared == nullptr ? "" : shared) / "chat";
  if (shared == nullptr || !fs::exists(folder / "tool_outputs.json")) {
    GTEST_SKIP() << "ODMOE_SHARED does not name the folder with the templates";
  }
  const Json cases = Json::parse(read_file(folder / "tool_outputs.json"));
  int n_template = 0;
  for (const Json& family : cases["families"]) {
    std::string wanted = family["family"];
    if (wanted == "pythonic-llama-4") wanted = "pythonic";
    if (wanted == "deepseek-v3-r1") wanted = "deepseek-v3";
    for (const Json& name : family["templates"]) {
      for (const fs::path& place : {folder / "templates", fs::path(shared) / "templates"}) {
        const fs::path path = place / (name.get<std::string>() + ".jinja");
        if (!fs::exists(path)) continue;
        EXPECT_EQ(output_of_template(read_file(path)).format->name, wanted) << path;
        ++n_template;
      }
    }
  }
  EXPECT_GE(n_template, 40);
  // Others of those families, and of formats without collected outputs.
  const std::map<std::string, std::string> others = {
      {"Bielik-11B-v3.0-Instruct", "hermes"},
      {"Cohere-Aya", "plain"},
      {"CohereForAI-c4ai-command-r-plus-tool_use", "command-r-plus"},
      {"Command-A", "command-r7b"},
      {"DBRX", "hermes"},
      {"DeepSeek-V3-trl", "deepseek-v3"},
      {"Devstral", "plain"},
      {"Falcon-H1", "hermes"},
      {"GLM-4-9B", "plain"},
      {"GigaChat3-10B-A1.8B", "plain"},
      {"Granite-3.0", "granite-3"},
      {"Laguna-v2", "glm-4.5"},
      {"Llama-3.2-Vision", "llama-3"},
      {"Llama-4-axolotl", "llama-3"},
      {"Meta-Llama-3", "plain"},
      {"Mistral-v2v3", "mistral-nemo"},
      {"Mixtral-8x7B", "plain"},
      {"Nemotron-3-Ultra", "qwen3-coder"},
      {"OLMo-2", "plain"},
      {"Phi-3-medium", "plain"},
      {"Qwen-QwQ-32B", "hermes"},
      {"Qwen3-trl-training", "hermes"},
      {"Rnj-1", "hermes"},
      {"Tulu-3", "plain"},
      {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek-v3"},
      {"gemma-3", "plain"},
      {"google-gemma-2-2b-it", "plain"},
      {"mistral-common-v7", "mistral-nemo"},
      {"ovms-MiniCPM5", "minicpm5"},
      {"vllm-chatglm", "plain"},
      {"vllm-granite_20b_fc", "granite-20b"},
      {"vllm-hermes", "hermes"},
      {"vllm-internlm2_tool", "internlm2"},
      {"vllm-llama4_json", "llama-3"},
  };
  for (const auto& [name, wanted] : others) {
    const fs::path path = folder / "templates" / (name + ".jinja");
    ASSERT_TRUE(fs::exists(path)) << path;
    EXPECT_EQ(output_of_template(read_file(path)).format->name, wanted) << name;
  }
}

}  // namespace
}  // namespace odmoe::server
