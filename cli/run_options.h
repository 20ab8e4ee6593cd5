// What `odmoe run` can be asked for.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/chat_template_options.h"
#include "cli/inference_options.h"
#include "odmoe/session.h"

namespace odmoe::cli {

struct RunOptions {
  InferenceOptions inference;
  GenerateOptions generate;
  std::optional<uint64_t> seed;       // nothing: a new one every time
  std::optional<std::string> prompt;  // "-": standard input
  std::string prompt_file;
  bool echo = false;
  bool chat = false;
  std::optional<std::string> system;  // --chat: the system message
  ChatTemplateOptions chat_template;  // --chat
  bool keeps_history = true;          // --chat: of the lines that were typed
};

// `options` must outlive `command`.
void add_run_options(CLI::App& command, RunOptions& options);

}  // namespace odmoe::cli
