// What is typed into a conversation: a message, or a command.
#pragma once

#include <string>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe::cli {

struct ChatCommand {
  enum class Kind { kMessage, kHelp, kSave, kLoad, kRetry, kSystem, kStats, kNew, kQuit };
  Kind kind = Kind::kMessage;
  std::string argument;  // of kMessage the message; of kSave and kLoad a file; of kSystem its text
};

// A line that begins with a slash is a command; with two it is a message that begins with one.
// kUsage: there is no such command, or it lacks what it needs.
Result<ChatCommand> parse_chat_command(std::string_view line);

// What there is, for /help.
std::string_view chat_help();

}  // namespace odmoe::cli
