// The option tree as data: what man page and completions are written from, so that neither can say other than
// the parser does.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace odmoe::cli {

struct OptionNode {
  std::vector<std::string> names;    // "-n", "--predict"; empty: a positional
  std::string value;                 // "N", "FILE", "a|b|c"; empty: a flag
  std::vector<std::string> choices;  // of a value "a|b|c"
  std::string help;
  std::string fallback;  // what holds when it is not given
  std::string group;
  std::string positional;  // "MODEL"; empty: an option
  bool is_file() const { return value == "FILE"; }
};

struct CommandNode {
  std::string name;  // "run"; "odmoe" for the root
  std::string help;
  std::string footer;
  std::vector<OptionNode> options;
  std::vector<CommandNode> commands;
};

CommandNode option_tree(const CLI::App& app);

}  // namespace odmoe::cli
