// Published chat templates against what transformers renders with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "jinja/chat_prompt.h"

namespace odmoe::jinja {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::tm time_of(const std::string& iso) {
  std::tm time = {};
  time.tm_year = std::stoi(iso.substr(0, 4)) - 1900;
  time.tm_mon = std::stoi(iso.substr(5, 2)) - 1;
  time.tm_mday = std::stoi(iso.substr(8, 2));
  time.tm_hour = std::stoi(iso.substr(11, 2));
  time.tm_min = std::stoi(iso.substr(14, 2));
  time.tm_sec = std::stoi(iso.substr(17, 2));
  time.tm_isdst = -1;
  std::mktime(&time);  // the day of the week
  return time;
}

ChatInput input_of(const Json& conversation) {
  ChatInput input{.messages = conversation["messages"],
                  .tools = conversation.value("tools", Json()),
                  .kwargs = conversation.value("kwargs", Json::object())};
  input.add_generation_prompt = conversation.value("add_generation_prompt", false);
  if (conversation.value("continue_final_message", false)) input.end = ChatEnd::kContent;
  return input;
}

SpecialTokens tokens_of(const Json& json) {
  SpecialTokens tokens;
  tokens.reserve(json.size());
  for (const auto& [name, text] : json.items()) tokens.emplace_back(name, text.get<std::string>());
  return tokens;
}

class GoldenTemplates : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* shared = std::getenv("ODMOE_SHARED");
    if (shared == nullptr || !fs::exists(fs::path(shared) / "chat")) {
      GTEST_SKIP() << "ODMOE_SHARED does not name the folder with the published templates";
    }
    folder_ = fs::path(shared) / "chat";
    conversations_ = Json::parse(read(folder_ / "conversations.json"));
    rendered_ = Json::parse(read(folder_ / "rendered.json"));
    now_ = time_of(rendered_["now"]);
  }

  Result<Template> parsed(const std::string& name) const {
    return Template::parse(read(folder_ / "templates" / (name + ".jinja")));
  }

  fs::path folder_;
  Json conversations_, rendered_;
  std::tm now_ = {};
};

TEST_F(GoldenTemplates, AllAgreeByteForByte) {
  int n_compared = 0;
  for (const auto& [name, golden] : rendered_["templates"].items()) {
    const auto chat_template = parsed(name);
    for (const Json& conversation : conversations_["conversations"]) {
      const std::string what = name + ": " + conversation["name"].get<std::string>();
      const Json& expected = golden["rendered"][conversation["name"].get<std::string>()];
      const auto rendered = chat_template.and_then([&](const Template& one) {
        return render_chat_prompt(one, input_of(conversation), tokens_of(golden["special_tokens"]),
                                  {.now = now_});
      });
      ++n_compared;
      if (expected.is_object()) {
        EXPECT_FALSE(rendered.has_value()) << what << ": should be " << expected;
        if (!rendered.has_value()) {
          EXPECT_THAT(rendered.error().message, ::testing::HasSubstr("line ")) << what;
        }
        continue;
      }
      ASSERT_TRUE(rendered.has_value()) << what << ": " << rendered.error().message;
      EXPECT_EQ(rendered->text, expected.get<std::string>()) << what;
    }
  }
  EXPECT_GE(n_compared, 97 * 20);
}

// Appends the mark to every text but roles and what is compared with constants.
void deface(Json& json, const std::string& mark) {
  if (json.is_string()) {
    json = json.get<std::string>() + mark;
  } else if (json.is_array()) {
    for (Json& item : json) deface(item, mark);
  } else if (json.is_object()) {
    for (const auto& [key, value] : json.items()) {
      if (key != "role" && key != "type" && key != "id" && key != "tool_call_id") deface(value, mark);
    }
  }
}

// All that looks like a control token in a template, and its special tokens.
std::string spelt_tokens(const std::string& source, const SpecialTokens& tokens) {
  static const std::regex kToken(
      R"(<\|[^|<>\n]{1,40}\|>|</?[A-Za-z_]{1,24}>|\[/?[A-Z_]{3,24}\]|<｜[^<>\n]{1,60}｜>)");
  std::set<std::string> found;
  for (std::sregex_iterator at(source.begin(), source.end(), kToken), end; at != end; ++at)
    found.insert(at->str());
  for (const auto& [name, text] : tokens) found.insert(text);
  std::string all;
  for (const std::string& token : found) {
    // Templates look for the ends of thoughts in what was said and cut there.
    if (!token.contains("think")) all += token;
  }
  return all;
}

bool covers(const std::vector<Span>& spans, size_t begin, size_t end) {
  return std::ranges::any_of(spans, [&](const Span& span) { return span.begin <= begin && end <= span.end; });
}

// Messages and tools spell all control tokens of a template; each place where they come out is known to be
// said.
TEST_F(GoldenTemplates, WhatMessagesSpellIsNeverTheTemplatesOwn) {
  const std::string sign = "\xE2\x9C\x81";
  int n_found = 0;
  for (const auto& [name, golden] : rendered_["templates"].items()) {
    const std::string source = read(folder_ / "templates" / (name + ".jinja"));
    const auto chat_template = Template::parse(source);
    ASSERT_TRUE(chat_template.has_value());
    const SpecialTokens tokens = tokens_of(golden["special_tokens"]);
    const std::string mark = sign + spelt_tokens(source, tokens) + sign;
    for (const Json& conversation : conversations_["conversations"]) {
      ChatInput input = input_of(conversation);
      deface(input.messages, mark);
      if (!input.tools.is_null()) deface(input.tools, mark);
      const auto rendered = render_chat_prompt(*chat_template, input, tokens, {.now = now_});
      if (!rendered.has_value()) continue;
      const std::string what = name + ": " + conversation["name"].get<std::string>();
      for (size_t at = rendered->text.find(mark); at != std::string::npos;
           at = rendered->text.find(mark, at + 1)) {
        EXPECT_TRUE(covers(rendered->said, at, at + mark.size())) << what;
        ++n_found;
      }
      for (size_t at = rendered->text.find(sign); at != std::string::npos;
           at = rendered->text.find(sign, at + 1)) {
        EXPECT_TRUE(covers(rendered->said, at, at + sign.size())) << what;
      }
    }
  }
  EXPECT_GT(n_found, 97 * 20);
}

}  // namespace
}  // namespace odmoe::jinja
