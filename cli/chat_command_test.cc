#include "cli/chat_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

using Kind = ChatCommand::Kind;
using ::testing::HasSubstr;

TEST(ChatCommand, ALineWithoutASlashIsAMessage) {
  EXPECT_EQ(parse_chat_command(" hello /help ")->kind, Kind::kMessage);
  EXPECT_EQ(parse_chat_command(" hello ")->argument, " hello ");
  EXPECT_EQ(parse_chat_command("//etc/passwd")->argument, "/etc/passwd");
}

TEST(ChatCommand, CommandsHaveWhatTheyNeed) {
  EXPECT_EQ(parse_chat_command("/save a b.json ")->argument, "a b.json");
  EXPECT_EQ(parse_chat_command("/load x")->kind, Kind::kLoad);
  EXPECT_EQ(parse_chat_command("/system Be brief.\nAnd kind.")->argument, "Be brief.\nAnd kind.");
  EXPECT_EQ(parse_chat_command("/system")->argument, "");
  EXPECT_EQ(parse_chat_command("/retry ")->kind, Kind::kRetry);
  EXPECT_THAT(parse_chat_command("/save").error().message, HasSubstr("/save needs a file"));
  EXPECT_THAT(parse_chat_command("/retry again").error().message, HasSubstr("takes nothing"));
  EXPECT_THAT(parse_chat_command("/frobnicate").error().message, HasSubstr("no command /frobnicate: /help"));
  EXPECT_FALSE(parse_chat_command("/").has_value());
}

TEST(ChatCommand, HelpNamesAll) {
  for (const char* name : {"/system", "/retry", "/new", "/save", "/load", "/stats", "/quit"}) {
    EXPECT_THAT(std::string(chat_help()), HasSubstr(name));
  }
}

}  // namespace
}  // namespace odmoe::cli
