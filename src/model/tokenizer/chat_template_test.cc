#include "model/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace odmoe {
namespace {

std::string render(ChatFamily family, std::string_view jinja, const std::vector<ChatTurn>& turns,
                   bool add_generation_prompt) {
  return render_chat(family, jinja, {.turns = turns, .add_generation_prompt = add_generation_prompt}).text();
}

using ::testing::HasSubstr;

const std::filesystem::path kTemplates = std::filesystem::path(ODMOE_SOURCE_DIR) / "tests/data/templates";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<ChatTurn> messages_of(const nlohmann::ordered_json& json) {
  std::vector<ChatTurn> messages;
  for (const auto& message : json) {
    ChatTurn turn{.role = message.at("role"), .content = message.at("content")};
    if (message.contains("reasoning_content")) turn.reasoning = message["reasoning_content"];
    turn.tool_call_id = message.value("tool_call_id", "");
    for (const auto& call : message.value("tool_calls", nlohmann::ordered_json::array())) {
      turn.tool_calls.push_back({.id = call.at("id"),
                                 .name = call.at("function").at("name"),
                                 .arguments = call.at("function").at("arguments").dump()});
    }
    messages.push_back(std::move(turn));
  }
  return messages;
}

ChatFamily family_of(const std::string& name) {
  if (name.starts_with("kimi")) return ChatFamily::kKimiK2;
  if (name.starts_with("deepseek-v2")) return ChatFamily::kDeepSeekV2;
  if (name.starts_with("deepseek")) return ChatFamily::kDeepSeekV3;
  return ChatFamily::kChatMl;
}

TEST(ChatTemplate, RendersAsJinjaDoes) {
  const auto goldens = nlohmann::ordered_json::parse(read(kTemplates / "goldens.json"));
  ASSERT_GT(goldens.size(), 300);
  for (const auto& golden : goldens) {
    const std::string name = golden.at("template");
    const std::string jinja = read(kTemplates / name);
    const Result<ChatFamily> family = detect_chat_family(jinja);
    ASSERT_TRUE(family.has_value()) << name;
    EXPECT_EQ(*family, family_of(name)) << name;
    Conversation conversation{.turns = messages_of(golden.at("messages")),
                              .add_generation_prompt = golden.at("add_generation_prompt")};
    for (const auto& tool : golden.value("tools", nlohmann::ordered_json::array())) {
      conversation.tools.push_back(tool.dump());
    }
    if (golden.contains("thinking")) conversation.thinking = golden["thinking"].get<bool>();
    EXPECT_EQ(render_chat(*family, jinja, conversation).text(), golden.at("text").get<std::string>())
        << name << "\n"
        << golden.dump();
  }
}

TEST(ChatTemplate, AFamilyIsFoundByTheNameItGives) {
  for (const ChatFamily family :
       {ChatFamily::kChatMl, ChatFamily::kKimiK2, ChatFamily::kDeepSeekV2, ChatFamily::kDeepSeekV3}) {
    EXPECT_EQ(parse_chat_family(chat_family_name(family)), family);
  }
}

TEST(ChatTemplate, UnknownNamesAndTemplatesAreRefusedWithTheKnownOnes) {
  const Result<ChatFamily> name = parse_chat_family("alpaca");
  ASSERT_FALSE(name.has_value());
  EXPECT_EQ(name.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(name.error().message,
            "there is no chat template \"alpaca\": choose one of chatml, kimi-k2, deepseek-v2, deepseek-v3");

  const Result<ChatFamily> unknown = detect_chat_family("[INST] {{ message.content }} [/INST]");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(unknown.error().message, HasSubstr("chatml, kimi-k2, deepseek-v2, deepseek-v3"));

  const Result<ChatFamily> none = detect_chat_family("");
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("the model has no chat template"));
}

TEST(ChatTemplate, SaysWhetherTheTemplateWritesBos) {
  EXPECT_TRUE(chat_template_has_bos(read(kTemplates / "deepseek-v3.jinja")));
  EXPECT_TRUE(chat_template_has_bos(read(kTemplates / "deepseek-v2.jinja")));
  EXPECT_FALSE(chat_template_has_bos(read(kTemplates / "qwen3.jinja")));
  EXPECT_FALSE(chat_template_has_bos(read(kTemplates / "kimi-k2.5.jinja")));
}

TEST(ChatTemplate, AFamilyWorksWithoutATemplate) {
  const std::vector<ChatTurn> messages = {{"system", "S"}, {"user", "Q"}, {"assistant", "A"}, {"user", "R"}};
  EXPECT_EQ(
      render(ChatFamily::kChatMl, "", messages, true),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
      "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render(ChatFamily::kKimiK2, "", messages, true),
            "<|im_system|>system<|im_middle|>S<|im_end|><|im_user|>user<|im_middle|>Q<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>A<|im_end|><|im_user|>user<|im_middle|>R<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>");
  EXPECT_EQ(render(ChatFamily::kDeepSeekV2, "", messages, true),
            "S\n\nUser: Q\n\nAssistant: A<｜end▁of▁sentence｜>User: R\n\nAssistant:");
  EXPECT_EQ(render(ChatFamily::kDeepSeekV3, "", messages, true),
            "S<｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜><｜User｜>R<｜Assistant｜>");
}

TEST(ChatTemplate, ModelsThatAlwaysThinkAreLedIntoIt) {
  const std::string jinja = R"({{- '<|im_start|>assistant\n<think>\n' }})";
  EXPECT_EQ(render(ChatFamily::kChatMl, jinja, {{"user", "Q"}}, true),
            "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n");
}

TEST(ChatTemplate, AnAnswerWithoutThoughtsExtendsWhatWasRenderedBefore) {
  const std::vector<ChatTurn> asked = {{"user", "Q"}};
  const std::vector<ChatTurn> went_on = {{"user", "Q"}, {"assistant", "A"}, {"user", "R"}};
  for (const char* name :
       {"demo.jinja", "qwen2.jinja", "qwen3.jinja", "kimi-k2.jinja", "kimi-k2-instruct.jinja",
        "deepseek-v2.jinja", "deepseek-v3.jinja", "deepseek-v3.1.jinja"}) {
    const std::string jinja = read(kTemplates / name);
    const ChatFamily family = *detect_chat_family(jinja);
    const std::string first = render(family, jinja, asked, true);
    // DeepSeek-V2 ends its prompt without the space that a rendered answer has.
    EXPECT_TRUE(render(family, jinja, went_on, true).starts_with(first)) << name;
  }
}

}  // namespace
}  // namespace odmoe
