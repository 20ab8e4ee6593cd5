#include "cli/chat_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "temp_dir.h"

namespace odmoe::cli {
namespace {

using odmoe::testing::TempDir;
using ::testing::HasSubstr;

class ChatFile : public ::testing::Test {
 protected:
  std::string error_of(const char* text) {
    std::ofstream(path_) << text;
    const auto turns = load_conversation(path_);
    return turns.has_value() ? "" : turns.error().message;
  }
  TempDir dir_;
  std::string path_ = (dir_ / "chat.json").string();
};

TEST_F(ChatFile, WhatWasSavedIsLoaded) {
  const std::vector<ChatTurn> turns = {{"system", "S"},
                                       {"user", "Zürich \"quoted\"\n"},
                                       {.role = "assistant", .content = "A", .reasoning = "Hm"}};
  ASSERT_TRUE(save_conversation(path_, turns).has_value());
  const auto loaded = load_conversation(path_);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  ASSERT_EQ(loaded->size(), 3);
  EXPECT_EQ((*loaded)[1].content, turns[1].content);
  EXPECT_EQ((*loaded)[2].reasoning, "Hm");
  EXPECT_EQ((*loaded)[1].reasoning, std::nullopt);
}

TEST_F(ChatFile, WhatIsNoConversationIsRefused) {
  EXPECT_THAT(error_of("{"), HasSubstr("no JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("\"messages\""));
  EXPECT_THAT(error_of(R"({"messages": [1]})"), HasSubstr("no object"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "user"}]})"), HasSubstr("\"content\""));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "tool", "content": "x"}]})"), HasSubstr("odmoe serve"));
  EXPECT_THAT(error_of(R"({"messages": [{"role": "zzz", "content": "x"}]})"), HasSubstr("\"zzz\""));
  EXPECT_EQ(load_conversation((dir_ / "none").string()).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(save_conversation((dir_ / "none" / "x").string(), {}).error().kind, ErrorKind::kIo);
}

TEST_F(ChatFile, WhatIsNoConversationIsNotWrittenOver) {
  std::ofstream(path_) << "precious";
  EXPECT_THAT(save_conversation(path_, {}).error().message, HasSubstr("is no conversation"));
  std::ofstream(path_) << R"({"messages": []})";
  EXPECT_TRUE(save_conversation(path_, {{"user", "Q"}}).has_value());
}

}  // namespace
}  // namespace odmoe::cli
