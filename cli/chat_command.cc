#include "cli/chat_command.h"

#include <algorithm>
#include <array>

#include "base/trim.h"

namespace odmoe::cli {
namespace {

using Kind = ChatCommand::Kind;

enum class Takes { kNothing, kSomething, kAnything };

struct Known {
  std::string_view name;
  Kind kind;
  Takes takes;
};

constexpr auto kCommands = std::to_array<Known>({{"help", Kind::kHelp, Takes::kNothing},
                                                 {"save", Kind::kSave, Takes::kSomething},
                                                 {"load", Kind::kLoad, Takes::kSomething},
                                                 {"retry", Kind::kRetry, Takes::kNothing},
                                                 {"system", Kind::kSystem, Takes::kAnything},
                                                 {"stats", Kind::kStats, Takes::kNothing},
                                                 {"new", Kind::kNew, Takes::kNothing},
                                                 {"quit", Kind::kQuit, Takes::kNothing}});

}  // namespace

Result<ChatCommand> parse_chat_command(std::string_view line) {
  if (!line.starts_with('/')) return ChatCommand{.kind = Kind::kMessage, .argument = std::string(line)};
  if (line.starts_with("//")) {
    return ChatCommand{.kind = Kind::kMessage, .argument = std::string(line.substr(1))};
  }
  const size_t end = std::min(line.find_first_of(" \t\n"), line.size());
  const std::string_view name = line.substr(1, end - 1), rest = trimmed(line.substr(end), " \t");
  const auto* known = std::ranges::find(kCommands, name, &Known::name);
  if (known == kCommands.end()) {
    return fail(
        ErrorKind::kUsage,
        "there is no command /{}: /help lists them; a message that begins with a slash begins with two",
        name);
  }
  if (known->takes == Takes::kSomething && rest.empty()) {
    return fail(ErrorKind::kUsage, "/{} needs a file: /{} conversation.json", name, name);
  }
  if (known->takes == Takes::kNothing && !rest.empty()) {
    return fail(ErrorKind::kUsage, "/{} takes nothing behind it", name);
  }
  return ChatCommand{.kind = known->kind, .argument = std::string(rest)};
}

std::string_view chat_help() {
  return "/system TEXT  what the conversation begins with; without a text: nothing\n"
         "/retry        another answer to the last message\n"
         "/new          forget what was said\n"
         "/save FILE    write the conversation to a file, as JSON\n"
         "/load FILE    go on with the one in a file\n"
         "/stats        how fast, how much memory, how much was read\n"
         "/quit         end, as Ctrl-D does\n"
         "Lines between \"\"\" and \"\"\" are one message, and so is what is pasted at once.\n"
         "Ctrl-C gives up what is typed, or ends the answer; with nothing typed it ends all.\n";
}

}  // namespace odmoe::cli
