// The options of every command that opens a model, in one place so that they mean the same everywhere.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "odmoe/options.h"

namespace odmoe::cli {

// The settings that a user gave, which no tuner changes.
struct GivenSettings {
  bool threads = false, lookahead = false, memory = false, chunk = false;
};

struct InferenceOptions {
  EngineOptions engine;
  GivenSettings given;  // once the command line is parsed, of commands that ask for it
  // Where `odmoe tune` keeps what it found; empty: nothing of it is used.  `run` and `serve` use it.
  std::filesystem::path tuning_file;
  bool allow_mixed = false;       // ranks may round otherwise than each other (docs/scale.md)
  std::filesystem::path balance;  // a trace by whose uses ranks divide the experts; empty: none
  std::string stats_file;         // empty: none
  bool verbose = false;
};

// MODEL alone.  `options` must outlive `command`, here and below.
CLI::Option* add_model(CLI::App& command, EngineOptions& options);
// --device and --device-memory.
void add_device_options(CLI::App& command, EngineOptions& options);
// What decides, beside the context, how much memory a session takes.
void add_size_options(CLI::App& command, EngineOptions& options);
// MODEL, and what decides how much memory it takes: what `inspect` needs.
void add_model_options(CLI::App& command, EngineOptions& options);
// These and the rest: what every command that infers takes.
void add_inference_options(CLI::App& command, InferenceOptions& options);
// Of a command that they were added to, once the command line is parsed.
GivenSettings given_settings(const CLI::App& command);

}  // namespace odmoe::cli
