// odmoe man: the manual page, written from the option tree.
#include "cli/man.h"

#include <string_view>

#include "cli/command.h"
#include "cli/output.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

// Text that roff is to print as it is.
std::string plain(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    line_start = c == '\n';
  }
  return out;
}

std::string bold_font(std::string_view text) { return "\\fB" + plain(text) + "\\fR"; }
std::string italic(std::string_view text) { return "\\fI" + plain(text) + "\\fR"; }

std::string option_text(const OptionNode& option) {
  std::string names;
  for (const std::string& name : option.names) names += (names.empty() ? "" : ", ") + bold_font(name);
  if (option.names.empty()) names = italic(option.positional);
  if (!option.value.empty() && !option.names.empty()) names += " " + italic(option.value);
  std::string text = ".TP\n" + names + "\n" + plain(option.help);
  if (!option.fallback.empty()) text += " [" + plain(option.fallback) + "]";
  return text + "\n";
}

std::string options_text(const CommandNode& command) {
  std::string text;
  for (const auto& option : command.options) text += option_text(option);
  return text;
}

// Line breaks mean something in what stands below the options.
std::string footer_text(const CommandNode& command) {
  return command.footer.empty() ? "" : ".PP\n.nf\n" + plain(command.footer) + "\n.fi\n";
}

}  // namespace

std::string man_page(const CommandNode& program) {
  std::string text = odmoe::format(
      ".TH ODMOE 1 \"\" \"odmoe {}\" \"User Commands\"\n"
      ".SH NAME\n{} \\- {}\n"
      ".SH SYNOPSIS\n{} [{}] {} {}\n"
      ".SH OPTIONS\n{}",
      plain(ODMOE_VERSION), plain(program.name),
      "run mixture\\-of\\-experts language models larger than memory", bold_font(program.name),
      italic("OPTIONS"), italic("COMMAND"), italic("..."), options_text(program));
  for (const auto& command : program.commands) {
    text += odmoe::format(".SH {}\n{}.\n{}{}", plain("odmoe " + command.name), plain(command.help),
                          options_text(command), footer_text(command));
  }
  return text + ".SH EXAMPLES AND EXIT STATUS\n" + footer_text(program);
}

void add_man(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("man", "Write the manual page");
  command->footer("Examples:\n  odmoe man | man -l -");
  command->callback([&app, &action] {
    action = [&app] {
      Output output = Output::standard_output();
      (void)output.write(man_page(option_tree(app)));
      return output.exit_code();
    };
  });
}

}  // namespace odmoe::cli
