#include "server/rendering_needs.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "model/tokenizer/built_in_templates.h"
#include "model/tokenizer/jinja_chat_template.h"
#include "server/json_guard.h"
#include "server/request.h"

namespace odmoe::server {
namespace {

namespace fs = std::filesystem;

std::string text_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<ChatTemplate> parsed_template(std::string source) {
  auto made =
      make_chat_template({.source = std::move(source)}, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  return made.has_value() ? std::move(*made) : nullptr;
}

void expect_enough(const ChatTemplate& chat_template, const Conversation& conversation,
                   const std::string& what) {
  const auto text =
      chat_template.render(conversation, {.memory_bytes = rendering_needs(conversation).values});
  const std::string error = text.has_value() ? "" : text.error().message;
  EXPECT_FALSE(error.contains("memory")) << what << error;
}

TEST(RenderingNeeds, AreEnoughForPublishedTemplates) {
  const char* shared = std::getenv("ODMOE_SHARED");
  if (shared == nullptr || !fs::exists(fs::path(shared) / "chat")) {
    GTEST_SKIP() << "ODMOE_SHARED does not name the folder with the published templates";
  }
  const fs::path folder = fs::path(shared) / "chat";
  const Json conversations = Json::parse(text_of_file(folder / "conversations.json"))["conversations"];
  int n_tried = 0;
  for (const auto& entry : fs::directory_iterator(folder / "templates")) {
    const auto chat_template = parsed_template(text_of_file(entry.path()));
    if (chat_template == nullptr) continue;
    for (const Json& conversation : conversations) {
      Json body{{"messages", conversation["messages"]}};
      if (conversation.contains("tools")) body["tools"] = conversation["tools"];
      const auto request = parse_chat_request(body.dump(), 1000);
      if (!request.has_value()) continue;
      expect_enough(*chat_template, request->conversation, entry.path().filename().string() + ": ");
      ++n_tried;
    }
  }
  EXPECT_GT(n_tried, 1000);
}

TEST(RenderingNeeds, AreEnoughForLongTextsAndJsonOfShortValues) {
  const auto chatml = parsed_template(std::string(built_in_chat_template("chatml")));
  Conversation conversation{.turns = {{"user", std::string(4 << 20, 'x')}}};
  expect_enough(*chatml, conversation, "a long text: ");
  conversation.turns.assign(10'000, {"user", ""});
  expect_enough(*chatml, conversation, "many messages: ");
  for (const char* item : {"[],", "0,", "{},", "\"\",", "null,"}) {
    std::string list;
    for (int i = 0; i < 100'000; ++i) list += item;
    list.pop_back();
    const std::string tool = R"({"type":"function","function":{"name":"f","x":[)" + list + "]}}";
    conversation.turns = {{"user", "Q"}};
    conversation.tools = {tool};
    expect_enough(*chatml, conversation, std::string("a tool of ") + item + ": ");
  }
}

}  // namespace
}  // namespace odmoe::server
