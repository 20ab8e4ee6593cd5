#include "cli/option_tree.h"

#include <utility>

namespace odmoe::cli {

CommandNode option_tree(const CLI::App& app) {
  CommandNode command{.name = app.get_name(),
                      .help = app.get_description(),
                      .footer = app.get_footer(),
                      .options = {},
                      .commands = {}};
  for (const CLI::Option* option : app.get_options()) {
    OptionNode description{.names = {},
                           .value = option->get_type_size() == 0 ? "" : option->get_type_name(),
                           .choices = {},
                           .help = option->get_description(),
                           .fallback = option->get_default_str(),
                           .group = option->get_group(),
                           .positional = option->get_positional() ? option->get_name(true) : ""};
    for (const std::string& name : option->get_snames()) description.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) description.names.push_back("--" + name);
    if (description.value.find('|') != std::string::npos) {
      description.choices = CLI::detail::split(description.value, '|');
    }
    command.options.push_back(std::move(description));
  }
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    command.commands.push_back(option_tree(*sub));
  }
  return command;
}

}  // namespace odmoe::cli
