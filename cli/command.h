// What every command of the program is: a branch of the option tree, and what it does once its options are
// read.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "odmoe/result.h"

namespace odmoe::cli {

// The exit codes that are not error's.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // as a shell reports a program that SIGINT ended
inline constexpr int kExitReaderGone = 141;   // as it reports one that SIGPIPE ended

// Runs with the options read; the exit code, or an error that main() shows and turns into one.
using Action = std::function<Result<int>()>;

// Each adds one command to the tree; its options live as long as the tree.  When the command line names the
// command, `action` becomes what it does.
void add_run(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_models(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);
void add_pull(CLI::App& app, Action& action);
void add_list(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_render(CLI::App& app, Action& action);
void add_perplexity(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_simulate(CLI::App& app, Action& action);
void add_collect(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_tune(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_serve(CLI::App& app, Action& action);
void add_batch(CLI::App& app, Action& action);
void add_top(CLI::App& app, Action& action);
void add_evaluate(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);
void add_man(CLI::App& app, Action& action);

// The whole tree, root options included.
struct Program {
  CLI::App app;
  Action action;
  Program();
};

}  // namespace odmoe::cli
