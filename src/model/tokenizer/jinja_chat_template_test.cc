#include "model/tokenizer/jinja_chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/tokenizer/built_in_templates.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

const std::filesystem::path kTemplates = std::filesystem::path(ODMOE_SOURCE_DIR) / "tests/data/templates";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<ChatTemplate> parsed(const std::string& source, const std::string& kwargs = "") {
  return make_chat_template({.source = source, .kwargs = kwargs}, {{"bos_token", ""}, {"eos_token", ""}})
      .value();
}
std::unique_ptr<ChatTemplate> built_in(std::string_view name) {
  return parsed(std::string(built_in_chat_template(name)));
}
std::string refusal_of(const ChatTemplate& chat_template, const Conversation& conversation) {
  const auto text = chat_template.render(conversation);
  return text.has_value() ? "" : text.error().message;
}
// What was said, each part between brackets.
std::string marked(const ChatText& text) {
  std::string out;
  size_t done = 0;
  for (const ChatText::Range& said : text.said) {
    out += text.text.substr(done, said.begin - done) + "[" +
           text.text.substr(said.begin, said.end - said.begin) + "]";
    done = said.end;
  }
  return out + text.text.substr(done);
}

std::vector<ChatTurn> messages_of(const Json& json) {
  std::vector<ChatTurn> messages;
  for (const auto& message : json) {
    ChatTurn turn{.role = message.at("role"), .content = message.at("content")};
    if (message.contains("reasoning_content")) turn.reasoning = message["reasoning_content"];
    turn.tool_call_id = message.value("tool_call_id", "");
    for (const auto& call : message.value("tool_calls", Json::array())) {
      turn.tool_calls.push_back({.id = call.at("id"),
                                 .name = call.at("function").at("name"),
                                 .arguments = call.at("function").at("arguments").dump()});
    }
    messages.push_back(std::move(turn));
  }
  return messages;
}

std::string eos_of(const std::string& name) {
  if (name.starts_with("deepseek")) return "<｜end▁of▁sentence｜>";
  if (name.starts_with("kimi")) return "[EOS]";
  return name.starts_with("qwen") ? "<|im_end|>" : "<|endoftext|>";
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const auto goldens = Json::parse(read(kTemplates / "goldens.json"));
  ASSERT_GT(goldens.size(), 300);
  for (const auto& golden : goldens) {
    const std::string name = golden.at("template");
    Conversation conversation{.turns = messages_of(golden.at("messages")),
                              .add_generation_prompt = golden.at("add_generation_prompt")};
    for (const auto& tool : golden.value("tools", Json::array())) conversation.tools.push_back(tool.dump());
    if (golden.contains("thinking")) conversation.thinking = golden["thinking"].get<bool>();
    const auto chat_template = make_chat_template({.source = read(kTemplates / name)},
                                                  {{"bos_token", ""}, {"eos_token", eos_of(name)}});
    const auto text = chat_template.value()->render(conversation);
    ASSERT_TRUE(text.has_value()) << name << ": " << text.error().message << golden.dump();
    EXPECT_EQ(text->text, golden.at("text").get<std::string>()) << name << "\n" << golden.dump();
  }
}

TEST(ChatTemplate, WhatCannotBeUsedIsRefused) {
  const auto none = make_chat_template({}, {});
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(
      none.error().message,
      "the model has no chat template: give a file or one of chatml, deepseek-v2, deepseek-v3, kimi-k2");
  const auto broken = make_chat_template({.source = "\n{% if %}"}, {});
  ASSERT_FALSE(broken.has_value());
  EXPECT_THAT(broken.error().message, HasSubstr("line 2 of the chat template"));
  for (const char* kwargs : {"[1]", "{", "1"}) {
    const auto template_with = make_chat_template({.source = "x", .kwargs = kwargs}, {});
    ASSERT_FALSE(template_with.has_value()) << kwargs;
    EXPECT_EQ(template_with.error().kind, ErrorKind::kUsage);
  }
  EXPECT_EQ(built_in_chat_template("alpaca"), "");
}

TEST(ChatTemplate, BuiltInOnesAreForModelsWithoutOne) {
  const Conversation conversation{
      .turns = {{"system", "S"}, {"user", "Q"}, {"assistant", "A"}, {"user", "R"}}};
  EXPECT_EQ(marked(*built_in("chatml")->render(conversation)),
            "<|im_start|>system\n[S]<|im_end|>\n<|im_start|>user\n[Q]<|im_end|>\n<|im_start|>assistant\n[A]<|"
            "im_end|>"
            "\n<|im_start|>user\n[R]<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(marked(*built_in("kimi-k2")->render(conversation)),
            "<|im_system|>system<|im_middle|>[S]<|im_end|><|im_user|>user<|im_middle|>[Q]<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>[A]<|im_end|><|im_user|>user<|im_middle|>[R]<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>");
  EXPECT_EQ(marked(*built_in("deepseek-v2")->render(conversation)),
            "[S]\n\nUser: [Q]\n\nAssistant: [A]User: [R]\n\nAssistant:");
  EXPECT_EQ(marked(*built_in("deepseek-v3")->render(conversation)),
            "[S]<｜User｜>[Q]<｜Assistant｜>[A]<｜end▁of▁sentence｜><｜User｜>[R]<｜Assistant｜>");
}

Conversation with_tools() {
  Conversation conversation{
      .turns = {{"user", "Q"}, {.role = "assistant", .content = ""}, {.role = "tool", .content = "42"}},
      .tools = {
          R"({"type":"function","function":{"name":"f","description":"D","parameters":{"type":"object"}}})"}};
  conversation.turns[1].tool_calls = {{.id = "c", .name = "f", .arguments = R"({"x":1})"}};
  conversation.turns[2].tool_call_id = "c";
  return conversation;
}

TEST(ChatTemplate, BuiltInOnesHaveWordsForTools) {
  EXPECT_EQ(
      built_in("chatml")->render(with_tools())->text,
      "<|im_start|>system\n# Tools\n\nYou may call one or more functions to assist with the user "
      "query.\n\nYou are "
      "provided with function signatures within <tools></tools> XML tags:\n<tools>\n{\"type\": \"function\", "
      "\"function\": {\"name\": \"f\", \"description\": \"D\", \"parameters\": {\"type\": "
      "\"object\"}}}\n</tools>"
      "\n\nFor each function call, return a json object with function name and arguments within <tool_call>"
      "</tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
      "</tool_call><|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"name\": "
      "\"f\", \"arguments\": {\"x\": 1}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n42\n"
      "</tool_response><|im_end|>\n<|im_start|>assistant\n");
  const std::string kimi = built_in("kimi-k2")->render(with_tools())->text;
  EXPECT_THAT(kimi, HasSubstr(R"(<|im_system|>tool_declare<|im_middle|>[{"type": "function")"));
  EXPECT_THAT(kimi,
              HasSubstr(R"(<|tool_call_begin|>c<|tool_call_argument_begin|>{"x": 1}<|tool_call_end|>)"));
  EXPECT_THAT(kimi, HasSubstr("<|im_system|>tool<|im_middle|>## Return of c\n42<|im_end|>"));
  const std::string deepseek = built_in("deepseek-v3")->render(with_tools())->text;
  EXPECT_THAT(deepseek,
              HasSubstr("## Tools\nYou have access to the following tools:\n\n### f\nDescription: D\n"));
  EXPECT_THAT(
      deepseek,
      HasSubstr("function<｜tool▁sep｜>f\n```json\n{\"x\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"));
  EXPECT_THAT(refusal_of(*built_in("deepseek-v2"), with_tools()), HasSubstr("no words for tools"));
}

TEST(ChatTemplate, ToolsAreDeclaredInTheSystemMessageWhereTheTemplateHasNoWordsForThem) {
  // ChatML as Qwen1.5 has it.
  const auto chatml = parsed(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  const auto text = chatml->render(with_tools());
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(text->text, built_in("chatml")->render(with_tools())->text);
  // The declaration is ours but for what it says of the tools.
  EXPECT_THAT(marked(*text), HasSubstr("<tools>\n{\"[type]\": \"[function]\""));
  EXPECT_THAT(marked(*text), HasSubstr("}}\n</tools>\n\nFor each function call"));
  // Others are not taught a form that their model has not learnt.
  const auto other = parsed("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}");
  EXPECT_THAT(refusal_of(*other, with_tools()), HasSubstr("no words for tools"));
  Conversation undeclared = with_tools();
  undeclared.tools.clear();
  EXPECT_THAT(refusal_of(*other, undeclared), HasSubstr("no words for calls of tools"));
}

TEST(ChatTemplate, ItIsTriedOutWhatATemplateTakes) {
  // Arguments as text, no content beside calls, ids of nine characters, no system messages.
  const auto particular = parsed(R"({%- for m in messages %}
{%- if m.role == 'system' %}{{ raise_exception('no system') }}
{%- elif m.tool_calls and m.content is none %}
  {%- for c in m.tool_calls %}
    {%- if c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}
    {{- '<' + c.id + ' ' + c.function.name + c.function.arguments + '>' }}
  {%- endfor %}
{%- elif m.role == 'tool' %}{{ '(' + m.tool_call_id + ' ' + m.name + ' ' + m.content + ')' }}
{%- else %}{{ m.role + ':' + m.content + ';' }}
{%- endif %}
{%- endfor %}
{%- for tool in tools or [] %}{{ tool.function.name }}{% endfor %})");
  Conversation conversation = with_tools();
  conversation.turns.insert(conversation.turns.begin(), {"system", "S"});
  const auto text = particular->render(conversation);
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(text->text, "user:S\n\nQ;<call00001 f{\"x\":1}>(call00001 f 42)f");
}

TEST(ChatTemplate, AThoughtIsLeftOutWhereItMayNotStandBesideContentAndCalls) {
  const auto harmony_like = parsed(R"({%- for m in messages %}
{%- if m.content and m.thinking and m.tool_calls %}{{ raise_exception('one or the other') }}{% endif %}
{{- m.content or '' }}{{ m.thinking }}
{%- for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}
{%- endfor %})");
  Conversation conversation = with_tools();
  conversation.tools.clear();
  conversation.turns[1].reasoning = "Hm";
  EXPECT_EQ(harmony_like->render(conversation)->text, "QHm{\"x\": 1}42");
  conversation.turns[1].content = "Let me see";
  EXPECT_EQ(harmony_like->render(conversation)->text, "QLet me see{\"x\": 1}42");
}

TEST(ChatTemplate, VariablesComeFromTheServerTheRequestAndTheSwitches) {
  const std::string source = "{{ enable_thinking }} {{ thinking }} {{ reasoning_effort }} {{ style }}";
  const std::vector<ChatTurn> turns = {{"user", "Q"}};
  EXPECT_EQ(parsed(source)->render({.turns = turns})->text, "   ");
  const auto with = parsed(source, R"({"style": "terse", "enable_thinking": true})");
  EXPECT_EQ(with->render({.turns = turns})->text, "True   terse");
  EXPECT_EQ(with->render({.turns = turns, .thinking = false, .reasoning_effort = "low"})->text,
            "False False low terse");
  EXPECT_EQ(
      with->render({.turns = turns, .thinking = false, .kwargs = R"({"style": 2, "thinking": "x"})"})->text,
      "False x  2");
  EXPECT_EQ(with->render({.turns = turns, .kwargs = R"({"messages": []})"}).error().kind, ErrorKind::kUsage);
}

TEST(ChatTemplate, RenderingIsBounded) {
  const auto grows = parsed("{% for i in range(100000) %}{{ messages[0].content }}{% endfor %}");
  const Conversation conversation{.turns = {{"user", std::string(1000, 'x')}}};
  EXPECT_THAT(grows->render(conversation, {.memory_bytes = size_t{1} << 20}).error().message,
              HasSubstr("1024 KiB"));
  int asked = 0;
  const auto ended = grows->render(conversation, {.goes_on = [&] { return ++asked < 3; }});
  EXPECT_EQ(ended.error().kind, ErrorKind::kInterrupted);
}

TEST(ChatTemplate, AnAnswerWithoutThoughtsExtendsWhatWasRenderedBefore) {
  const std::vector<ChatTurn> asked = {{"user", "Q"}};
  const std::vector<ChatTurn> went_on = {{"user", "Q"}, {"assistant", "A"}, {"user", "R"}};
  for (const char* name :
       {"demo.jinja", "qwen2.jinja", "qwen3.jinja", "kimi-k2.jinja", "kimi-k2-instruct.jinja",
        "deepseek-v2.jinja", "deepseek-v3.jinja", "deepseek-v3.1.jinja"}) {
    const auto chat_template = parsed(read(kTemplates / name));
    const std::string first = chat_template->render({.turns = asked})->text;
    // DeepSeek-V2 ends its prompt without the space that a rendered answer has.
    EXPECT_TRUE(chat_template->render({.turns = went_on})->text.starts_with(first)) << name;
  }
}

}  // namespace
}  // namespace odmoe
