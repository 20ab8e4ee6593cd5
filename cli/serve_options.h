// What `odmoe serve` can be asked for.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/chat_template_options.h"
#include "cli/inference_options.h"
#include "server/server.h"

namespace odmoe::cli {

struct ServeOptions {
  InferenceOptions inference;
  server::ServerOptions server;
  ChatTemplateOptions chat_template;
  std::string api_key_file;  // a key per line; empty: none
  std::string warm;          // a trace; empty: nothing is loaded first
  std::optional<uint64_t> prompt_cache_bytes;
  int drain_seconds = 60;
  bool json_log = false;
};

// `options` must outlive `command`.
void add_serve_options(CLI::App& command, ServeOptions& options);

// Once the options are parsed: what the server takes of memory, for it and the memory plan.  kUsage: it has
// more sessions than there can be.
Status settle_memory(ServeOptions& options);

// The keys of the options, of the file and of the environment together.
Result<std::vector<std::string>> api_keys(const ServeOptions& options);

}  // namespace odmoe::cli
