#include "cli/option_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/completion.h"
#include "cli/man.h"

namespace odmoe::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

CommandNode program() { return option_tree(Program().app); }

CommandNode command(const CommandNode& program, const std::string& name) {
  return *std::ranges::find(program.commands, name, &CommandNode::name);
}

OptionNode option(const CommandNode& command, const std::string& name) {
  return *std::ranges::find_if(command.options,
                               [&](const auto& each) { return std::ranges::contains(each.names, name); });
}

TEST(OptionTree, TellsNamesValuesAndDefaultsOfOptions) {
  const auto root = program();
  const auto type = option(command(root, "run"), "--cache-type");
  EXPECT_EQ(type.value, "f16|bf16|q8_0|f32");
  EXPECT_THAT(type.choices, ElementsAre("f16", "bf16", "q8_0", "f32"));
  EXPECT_EQ(type.fallback, "f16");
  EXPECT_THAT(option(command(root, "run"), "-n").names, ElementsAre("-n", "--predict"));
  EXPECT_TRUE(option(command(root, "perplexity"), "--logits").is_file());
  EXPECT_EQ(option(command(root, "run"), "--chat").value, "");
}

TEST(OptionTree, EveryOptionSaysWhatItIsForAndEveryCommandHasExamples) {
  const auto root = program();
  EXPECT_THAT(root.footer, HasSubstr("Examples:"));
  for (const auto& command : root.commands) {
    EXPECT_THAT(command.footer, HasSubstr("Examples:")) << command.name;
    EXPECT_THAT(command.help, Not(IsEmpty())) << command.name;
    for (const auto& option : command.options) {
      EXPECT_THAT(option.help, Not(IsEmpty()))
          << command.name << " " << option.positional << option.names.size();
    }
  }
}

TEST(OptionTree, CommandsThatInferShareTheirOptions) {
  const auto root = program();
  const auto names = [&](const std::string& name) {
    std::vector<std::string> all;
    const CommandNode node = command(root, name);
    for (const auto& option : node.options) {
      if (!option.names.empty()) all.push_back(option.names.back());
    }
    return all;
  };
  for (const char* shared : {"--memory", "--context", "--cache-type", "--chunk", "--snapshots", "--threads",
                             "--reader", "--flash-attention", "--stats", "--verbose"}) {
    EXPECT_THAT(names("run"), Contains(shared));
    EXPECT_THAT(names("perplexity"), Contains(shared));
  }
}

TEST(Completion, OffersEveryOptionOfEveryCommandInEveryShell) {
  const auto root = program();
  const std::string bash = bash_completion(root), zsh = zsh_completion(root), fish = fish_completion(root);
  for (const auto& command : root.commands) {
    for (const auto& option : command.options) {
      for (const std::string& name : option.names) {
        EXPECT_THAT(bash, HasSubstr(name));
        EXPECT_THAT(zsh, HasSubstr("*" + name + "["));
        EXPECT_THAT(fish,
                    HasSubstr(name.starts_with("--") ? "-l " + name.substr(2) : "-s " + name.substr(1)));
      }
    }
  }
  EXPECT_THAT(bash, HasSubstr("run:--cache-type) mapfile -t COMPREPLY < <(compgen -W 'f16 bf16 q8_0 f32'"));
  EXPECT_THAT(bash, HasSubstr("completion) mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish'"));
}

TEST(Man, ShowsEveryCommandAndLeavesNothingForRoffToMistake) {
  const auto root = program();
  const std::string page = man_page(root);
  for (const auto& command : root.commands) EXPECT_THAT(page, HasSubstr(".SH odmoe " + command.name + "\n"));
  EXPECT_THAT(page, HasSubstr("\\fB\\-\\-cache\\-type\\fR \\fIf16|bf16|q8_0|f32\\fR"));
  // A text line that began with a dot or a quote would be taken for a request.
  CommandNode odd{.name = "odmoe", .help = "", .footer = ".x\n'y\\z", .options = {}, .commands = {}};
  EXPECT_THAT(man_page(odd), HasSubstr("\n\\&.x\n\\&'y\\ez\n"));
}

}  // namespace
}  // namespace odmoe::cli
