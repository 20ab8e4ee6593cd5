// odmoe completion: written from the option tree, so that no option can be forgotten.
#include "cli/completion.h"

#include <functional>
#include <memory>

#include "cli/choice.h"
#include "cli/command.h"
#include "cli/output.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

std::string join(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

// A word for a shell.  Characters of `escaped` get a backslash, for those who read the word after the shell.
std::string single_quoted(const std::string& text, const std::string& escaped = "") {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
      continue;
    }
    if (escaped.find(c) != std::string::npos) out += '\\';
    out += c;
  }
  return "'" + out + "'";
}

bool is_option(const OptionNode& option) { return !option.names.empty(); }

std::vector<std::string> option_names(const CommandNode& command) {
  std::vector<std::string> names;
  for (const auto& option : command.options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  return names;
}

std::vector<std::string> command_names(const CommandNode& program) {
  std::vector<std::string> names;
  names.reserve(program.commands.size());
  for (const auto& command : program.commands) names.push_back(command.name);
  return names;
}

// What may stand where a command has no option: a positional's words, or files.
std::string bash_positional(const CommandNode& command) {
  for (const auto& option : command.options) {
    if (is_option(option)) continue;
    return option.choices.empty() ? "compgen -f -- \"$cur\""
                                  : "compgen -W '" + join(option.choices, " ") + "' -- \"$cur\"";
  }
  return ":";
}

}  // namespace

std::string bash_completion(const CommandNode& program) {
  const std::string commands = join(command_names(program), "|");
  std::string text = odmoe::format(
      "# bash completion for {0}; install as /usr/share/bash-completion/completions/{0}\n"
      "_{0}() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= word words\n"
      "  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n"
      "    case $word in {1}) command=$word; break ;; esac\n"
      "  done\n"
      "  case $command:$prev in\n",
      program.name, commands);
  const auto values = [&text](const std::string& command, const CommandNode& description) {
    for (const auto& option : description.options) {
      if (!is_option(option) || option.value.empty()) continue;
      std::string patterns;
      for (const std::string& name : option.names) {
        patterns += odmoe::format("{}{}:{}", patterns.empty() ? "" : "|", command, name);
      }
      std::string reply = "return";
      if (!option.choices.empty()) {
        reply =
            "mapfile -t COMPREPLY < <(compgen -W '" + join(option.choices, " ") + "' -- \"$cur\"); return";
      } else if (option.is_file()) {
        reply = "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return";
      }
      text += odmoe::format("    {}) {} ;;\n", patterns, reply);
    }
  };
  values("*", program);
  for (const auto& command : program.commands) values(command.name, command);
  text += "  esac\n  case $command in\n";
  text += odmoe::format("    '') words='{} {}' ;;\n", join(command_names(program), " "),
                        join(option_names(program), " "));
  for (const auto& command : program.commands) {
    text += odmoe::format("    {}) words='{}' ;;\n", command.name, join(option_names(command), " "));
  }
  text +=
      "  esac\n"
      "  if [[ $cur == -* || -z $command ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
      "    return\n"
      "  fi\n"
      "  case $command in\n";
  for (const auto& command : program.commands) {
    text +=
        odmoe::format("    {}) mapfile -t COMPREPLY < <({}) ;;\n", command.name, bash_positional(command));
  }
  text += odmoe::format("  esac\n}}\ncomplete -o filenames -F _{0} {0}\n", program.name);
  return text;
}

std::string zsh_completion(const CommandNode& program) {
  const auto arguments = [](const CommandNode& command) {
    std::string text;
    for (const auto& option : command.options) {
      std::string action;
      if (!option.choices.empty()) {
        action = "(" + join(option.choices, " ") + ")";
      } else if (option.is_file()) {
        action = "_files";
      }
      if (!is_option(option)) {
        text += odmoe::format(" \\\n        {}", single_quoted("1:" + option.positional + ":" + action));
        continue;
      }
      for (const std::string& name : option.names) {
        // Brackets and colons divide a specification.
        std::string help;
        for (const char c : option.help) {
          if (c == '[' || c == ']' || c == ':' || c == '\\') help += '\\';
          help += c;
        }
        std::string spec = odmoe::format("*{}[{}]", name, help);
        if (!option.value.empty())
          spec += odmoe::format(":{}:{}", option.choices.empty() ? option.value : "value", action);
        text += odmoe::format(" \\\n        {}", single_quoted(spec));
      }
    }
    return text;
  };
  std::string text =
      odmoe::format("#compdef {0}\n_{0}() {{\n  local -a commands\n  commands=(\n", program.name);
  for (const auto& command : program.commands) {
    text += odmoe::format("    {}\n", single_quoted(command.name + ":" + command.help));
  }
  text += odmoe::format(
      "  )\n"
      "  local curcontext=$curcontext state line\n"
      "  _arguments -C{} \\\n"
      "        '1: :->command' '*:: :->arguments'\n"
      "  case $state in\n"
      "    command) _describe command commands ;;\n"
      "    arguments)\n"
      "      case $line[1] in\n",
      arguments(program));
  for (const auto& command : program.commands) {
    text += odmoe::format("        {}) _arguments -s{} ;;\n", command.name, arguments(command));
  }
  text += odmoe::format("      esac ;;\n  esac\n}}\n_{0} \"$@\"\n", program.name);
  return text;
}

std::string fish_completion(const CommandNode& program) {
  std::string text = odmoe::format("# fish completion for {0}\ncomplete -c {0} -f\n", program.name);
  const auto options = [&](const CommandNode& command, const std::string& condition) {
    for (const auto& option : command.options) {
      std::string line = odmoe::format("complete -c {} -n {}", program.name, single_quoted(condition));
      if (is_option(option)) {
        for (const std::string& name : option.names) {
          line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
        }
        line += " -d " + single_quoted(option.help, "\\");
        if (!option.value.empty()) line += " -r";
      }
      if (!option.choices.empty()) {
        line += " -a '" + join(option.choices, " ") + "'";
      } else if (option.is_file()) {
        line += " -F";
      } else if (!is_option(option)) {
        continue;
      }
      text += line + "\n";
    }
  };
  options(program, "__fish_use_subcommand");
  for (const auto& command : program.commands) {
    text += odmoe::format("complete -c {} -n __fish_use_subcommand -a {} -d {}\n", program.name, command.name,
                          single_quoted(command.help, "\\"));
    options(command, "__fish_seen_subcommand_from " + command.name);
  }
  return text;
}

void add_completion(CLI::App& app, Action& action) {
  using Writer = std::string (*)(const CommandNode&);
  const auto writer = std::make_shared<Writer>(bash_completion);
  CLI::App* command = app.add_subcommand("completion", "Write a completion script for a shell");
  add_choice<Writer>(*command, "SHELL", bash_completion,
                     {{"bash", bash_completion}, {"zsh", zsh_completion}, {"fish", fish_completion}},
                     "The shell that will read it", [writer](Writer choice) { *writer = choice; })
      ->default_str("")
      ->required();
  command->footer(
      "Installed with the program; for this shell alone:\n"
      "\n"
      "Examples:\n"
      "  source <(odmoe completion bash)\n"
      "  odmoe completion fish > ~/.config/fish/completions/odmoe.fish");
  command->callback([&app, &action, writer] {
    action = [&app, writer] {
      Output output = Output::standard_output();
      (void)output.write((*writer)(option_tree(app)));
      return output.exit_code();
    };
  });
}

}  // namespace odmoe::cli
