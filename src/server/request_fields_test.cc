#include "server/request_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "server/testing_request.h"

namespace odmoe::server {
namespace {

using namespace testing;
using ::testing::HasSubstr;
using Treatment = FieldRule::Treatment;

std::string member(std::string_view name, const Json& value) {
  return odmoe::format("\"{}\":{}", name, value.dump());
}

// Values that fields have when somebody means them.
const Json kMeant[] = {0.37, 5, true, "a", Json{{"a", 1}}, Json::array({1}), Json::array({"a"})};

TEST(RequestFields, WhatWouldChangeTheAnswerIsRefusedByName) {
  int n_refused = 0;
  for (const FieldRule& rule : field_rules()) {
    if (rule.treatment != Treatment::kRefused) continue;
    ++n_refused;
    for (const Json& value : kMeant) {
      const Json off = rule.off.empty() ? Json::array() : Json::parse(rule.off);
      if (std::ranges::contains(off, value)) continue;
      const std::string more = member(rule.name, value);
      if (rule.in_chat) {
        const auto request = read_chat(ask(more));
        ASSERT_FALSE(request.has_value()) << more;
        EXPECT_EQ(request.error().status, 400);
        EXPECT_EQ(request.error().param, rule.name) << more;
        EXPECT_THAT(request.error().message, HasSubstr(rule.name));
      }
      if (rule.in_completions) {
        EXPECT_EQ(completion_refuses(complete(more)), rule.name) << more;
      }
    }
  }
  EXPECT_GT(n_refused, 100);
}

TEST(RequestFields, WhatIsOffIsTaken) {
  for (const FieldRule& rule : field_rules()) {
    Json off = rule.off.empty() ? Json::array() : Json::parse(rule.off);
    off.push_back(nullptr);
    if (rule.treatment == Treatment::kRefused) {
      off.push_back("");
      off.push_back(Json::array());
    }
    for (const Json& value : off) {
      if (rule.name == "messages" || rule.name == "prompt") continue;
      const std::string more = member(rule.name, value);
      if (rule.in_chat) {
        EXPECT_EQ(chat_refuses(ask(more)), "") << more;
      }
      if (rule.in_completions) {
        EXPECT_EQ(completion_refuses(complete(more)), "") << more;
      }
    }
  }
}

TEST(RequestFields, WhatChangesNothingIsTakenWhateverItsValue) {
  for (const FieldRule& rule : field_rules()) {
    if (rule.treatment != Treatment::kHarmless) continue;
    for (const Json& value : kMeant) {
      EXPECT_EQ(chat_refuses(ask(member(rule.name, value))), "");
      EXPECT_EQ(completion_refuses(complete(member(rule.name, value))), "");
    }
  }
}

TEST(RequestFields, WhatNobodyKnowsIsPassedOver) {
  EXPECT_EQ(chat_refuses(ask(R"("unheard_of":{"a":[1]},"x-mine":5)")), "");
  EXPECT_EQ(completion_refuses(complete(R"("unheard_of":true)")), "");
}

TEST(RequestFields, NumbersAreOffHoweverTheyAreWritten) {
  EXPECT_EQ(chat_refuses(ask(R"("mirostat":0.0,"typical_p":1,"length_penalty":1.0)")), "");
  EXPECT_EQ(chat_refuses(ask(R"("typical_p":0.9)")), "typical_p");
}

TEST(RequestFields, TheDocumentationShowsEveryField) {
  std::ifstream file(std::filesystem::path(ODMOE_SOURCE_DIR) / "docs/server.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const FieldRule& rule : field_rules()) {
    EXPECT_TRUE(text.contains(odmoe::format("`{}`", rule.name))) << rule.name;
  }
}

}  // namespace
}  // namespace odmoe::server
