// Reads the command line, runs the command, and turns what became of it into a line and an exit code.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/openmp_spinning.h"
#include "cli/output.h"
#include "cli/ranks.h"
#include "cli/standard_descriptors.h"

namespace {

using namespace odmoe;
using namespace odmoe::cli;

// One line, whatever the message holds.
int complain(std::string message, int code) {
  std::ranges::replace_if(message, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  std::cerr << "odmoe: " << message << std::endl;
  return code;
}

int exit_code(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kUsage:
      return complain(error.message, kExitUsage);
    case ErrorKind::kInterrupted:
      return kExitInterrupted;  // whoever pressed Ctrl-C knows
    default:
      return complain(error.message, kExitError);
  }
}

int finish(const Result<int>& outcome) { return outcome.has_value() ? *outcome : exit_code(outcome.error()); }

int run(int argc, char** argv) {
  // The log goes where the errors go: standard output is for text.
  spdlog::set_default_logger(spdlog::stderr_color_mt("odmoe"));
  spdlog::set_level(spdlog::level::warn);
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is seen where it is written to
  std::signal(SIGXFSZ, SIG_IGN);  // and so is a limit on the size of files
  interrupt::install();

  Program program;
  try {
    program.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      std::ostringstream text;
      program.app.exit(error, text, text);
      Output output = Output::standard_output();
      (void)output.write(text.str());
      return finish(output.exit_code());
    }
    // CLI11 would say that a command is required, to someone who misspelt one.
    const std::vector<std::string> unknown = program.app.remaining();
    if (program.app.get_subcommands().empty() && !unknown.empty() && !unknown.front().starts_with('-')) {
      return complain("there is no command '" + unknown.front() + "' (see 'odmoe --help')", kExitUsage);
    }
    std::string command = "odmoe";
    for (const CLI::App* used : program.app.get_subcommands()) command += " " + used->get_name();
    return complain(std::string(error.what()) + " (see '" + command + " --help')", kExitUsage);
  }
  return ranks::leave(finish(program.action()));
}

}  // namespace

int main(int argc, char** argv) {
  bound_openmp_spinning(argv);
  hold_standard_descriptors();
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return complain("out of memory; give a smaller --memory or --context", kExitError);
  } catch (const std::exception& error) {
    return complain(std::string("internal error: ") + error.what(), kExitError);
  }
}
