#include "cli/serve_options.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "base/units.h"
#include "cli/choice.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/size_option.h"
#include "odmoe/format.h"
#include "server/memory_needs.h"

namespace odmoe::cli {
namespace {

constexpr const char* kKeyVariable = "ODMOE_API_KEY";
constexpr uint64_t kDefaultPromptCacheBytes = 256 * kMiB;
constexpr uint64_t kDefaultCacheDirBytes = 16 * kGiB;

// Of a file on the disk; what comes by a pipe is nobody else's to read.
bool is_open_to_others(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  return !error && std::filesystem::is_regular_file(status) &&
         (status.permissions() & std::filesystem::perms::others_all) != std::filesystem::perms::none;
}

void add_network_options(CLI::App& command, ServeOptions& options) {
  server::ServerOptions& server = options.server;
  constexpr const char* kGroup = "Network";
  command.add_option("--host", server.host, "Address to listen on; 0.0.0.0: all of this machine's")
      ->type_name("ADDRESS")
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("-p,--port", server.port, "Port to listen on; 0: any that is free, which is then shown")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535).description(""))
      ->group(kGroup);
  command
      .add_option(
          "--api-key", server.api_keys,
          "Key that requests must have; several may be given.  Others see it in the list of processes: "
          "prefer --api-key-file or the environment variable ODMOE_API_KEY")
      ->type_name("KEY")
      ->allow_extra_args(false)
      ->group(kGroup);
  command.add_option("--api-key-file", options.api_key_file, "File with such keys, one per line")
      ->type_name("FILE")
      ->group(kGroup);
  command
      .add_option("--cors", server.cors_origins,
                  "Origin whose pages may ask from a browser, such as http://localhost:3000; *: all")
      ->type_name("ORIGIN")
      ->allow_extra_args(false)
      ->group(kGroup);
  command
      .add_option("--allow-host", server.allowed_hosts,
                  "Name by which others on this machine may call the server beside localhost, such as "
                  "host.docker.internal; with a port, of that port alone; several may be given")
      ->type_name("NAME")
      ->allow_extra_args(false)
      ->group(kGroup);
  command.add_option("--max-connections", server.max_connections, "Connections served at once")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  add_size(
      command, "--max-body", [&server](uint64_t bytes) { server.max_body_bytes = bytes; },
      "Largest body of a request",
      "1MiB and 128 bytes for each token of the context, 8MiB at most; with --vision-url 64MiB")
      ->group(kGroup);
}

void add_request_options(CLI::App& command, ServeOptions& options) {
  server::ServerOptions& server = options.server;
  constexpr const char* kGroup = "Requests";
  command
      .add_option("--sessions", options.inference.engine.sessions,
                  "Texts written at once, each with a KV cache")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, kMaxSessions).description(""))
      ->group(kGroup);
  command
      .add_option("--queue", server.max_queue, "Requests that may wait; those beyond are told to come back")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option_function<int>(
          "--timeout", [&server](int seconds) { server.timeout = std::chrono::seconds(seconds); },
          "Longest that a request may take, in seconds; 0: as long as it takes")
      ->type_name("N")
      ->default_str("0")
      ->check(CLI::Range(0, 1 << 20).description(""))
      ->group(kGroup);
  command.add_option("--name", server.model_id, "The model's name in the API")
      ->type_name("NAME")
      ->default_str("the file's, without .gguf")
      ->group(kGroup);
  add_chat_template_options(command, options.chat_template, kGroup);
}

void add_cache_options(CLI::App& command, ServeOptions& options) {
  server::ServerOptions& server = options.server;
  constexpr const char* kGroup = "Prompts that were there before";
  add_size(
      command, "--prompt-cache", [&options](uint64_t bytes) { options.prompt_cache_bytes = bytes; },
      "Memory for KV caches of texts whose session serves another, of the budget",
      "0, with --cache-dir 256MiB")
      ->group(kGroup);
  auto* directory =
      command
          .add_option("--cache-dir", server.cache_dir,
                      "Directory to keep them in as well, so that they are there after a restart")
          ->type_name("DIR")
          ->group(kGroup);
  server.cache_dir_bytes = kDefaultCacheDirBytes;
  add_size(
      command, "--cache-size", [&server](uint64_t bytes) { server.cache_dir_bytes = bytes; },
      "Most that the directory may hold; those used longest ago go", "16GiB")
      ->needs(directory)
      ->group(kGroup);
  add_choice<server::PromptReuse>(
      command, "--prompt-reuse", server::PromptReuse::kConversation,
      {{"conversation", server::PromptReuse::kConversation},
       {"exact", server::PromptReuse::kExact},
       {"longest", server::PromptReuse::kLongest}},
      "What is not evaluated again of a prompt that begins as an earlier text: all of a conversation that "
      "was "
      "had here, answers too, which is evaluated as it was then where it is not there any more, so that an "
      "answer depends on the conversation alone; whole chunks (--chunk) from its beginning, so that it "
      "depends "
      "on the prompt's tokens alone; or all that is equal, so that its last bits depend on what is there",
      [&server](server::PromptReuse reuse) { server.prompt_reuse = reuse; })
      ->group(kGroup);
  command
      .add_flag("--share-prompts", server.share_prompts,
                "Use texts that came with one API key again for requests with another; cached_tokens then "
                "tells each how much of a prompt others had asked")
      ->group(kGroup);
}

void add_response_options(CLI::App& command, ServeOptions& options) {
  add_size(
      command, "--response-store",
      [&options](uint64_t bytes) { options.server.response_store_bytes = bytes; },
      "Memory for responses that clients go on from with previous_response_id, of the budget; 0: none "
      "are kept",
      "16MiB")
      ->group("Requests");
}

void add_vision_options(CLI::App& command, ServeOptions& options) {
  server::VisionOptions& vision = options.server.vision;
  constexpr const char* kGroup = "Images";
  auto* url =
      command
          .add_option("--vision-url", vision.url,
                      "OpenAI-compatible server whose vision model describes images in messages, such as "
                      "http://mac2:8080")
          ->type_name("URL")
          ->group(kGroup);
  const auto add = [&](const char* name, auto& value, const char* help, const char* type) {
    command.add_option(name, value, help)->type_name(type)->capture_default_str()->needs(url)->group(kGroup);
  };
  add("--vision-model", vision.model, "Model that it is asked for", "NAME");
  add("--vision-prompt", vision.prompt, "What it is asked of an image", "TEXT");
  command
      .add_option_function<int>(
          "--vision-timeout", [&vision](int seconds) { vision.timeout = std::chrono::seconds(seconds); },
          "Seconds that it may take for an image")
      ->type_name("N")
      ->default_str("60")
      ->check(CLI::Range(1, 3600).description(""))
      ->needs(url)
      ->group(kGroup);
  command
      .add_flag("--vision-allow-urls", vision.allow_remote,
                "Pass http and https addresses of images on to it, which then fetches them")
      ->needs(url)
      ->group(kGroup);
}

void add_batch_options(CLI::App& command, ServeOptions& options) {
  server::ServerOptions& server = options.server;
  constexpr const char* kGroup = "Files and batches";
  auto* directory =
      command
          .add_option("--batch-dir", server.batch_dir,
                      "Directory for /v1/files and /v1/batches, which are answered when nobody else has "
                      "anything to be answered, and gone on with after a restart")
          ->type_name("DIR")
          ->group(kGroup);
  add_size(
      command, "--batch-disk", [&server](uint64_t bytes) { server.batch_disk_bytes = bytes; },
      "Most that the directory may hold", "16GiB")
      ->needs(directory)
      ->group(kGroup);
  command
      .add_option("--batch-width", server.batch_width,
                  "Requests of a batch that are answered at once, each with a KV cache beside --sessions")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, kMaxSessions - 1).description(""))
      ->needs(directory)
      ->group(kGroup);
}

}  // namespace

void add_serve_options(CLI::App& command, ServeOptions& options) {
  options.inference.engine.sessions = 2;
  add_network_options(command, options);
  add_request_options(command, options);
  add_response_options(command, options);
  add_cache_options(command, options);
  add_batch_options(command, options);
  add_vision_options(command, options);
  constexpr const char* kGroup = "Operation";
  command
      .add_option("--warm", options.warm,
                  "Recorded routing: its commonest experts are read before it is ready")
      ->type_name("TRACE")
      ->group(kGroup);
  command
      .add_option("--drain", options.drain_seconds,
                  "Seconds that requests under way have to end after SIGTERM or Ctrl-C")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(0, 86400).description(""))
      ->group(kGroup);
  add_choice<bool>(command, "--log-format", false, {{"text", false}, {"json", true}},
                   "Lines of the log; --log-level info shows every request",
                   [&options](bool json) { options.json_log = json; })
      ->group(kGroup);
  add_inference_options(command, options.inference);
}

Status settle_memory(ServeOptions& options) {
  options.server.prompt_cache_bytes =
      options.prompt_cache_bytes.value_or(options.server.cache_dir.empty() ? 0 : kDefaultPromptCacheBytes);
  EngineOptions& engine = options.inference.engine;
  if (!options.server.batch_dir.empty()) {
    if (engine.sessions + options.server.batch_width > kMaxSessions) {
      return fail(ErrorKind::kUsage, "--sessions {} and --batch-width {}: together they may be {}",
                  engine.sessions, options.server.batch_width, kMaxSessions);
    }
    engine.sessions += options.server.batch_width;
  }
  if (options.server.max_body_bytes == 0) {
    options.server.max_body_bytes = server::default_max_body_bytes(options.server, engine.context);
  }
  const server::ServerNeeds needs = server::server_needs(options.server, engine.sessions);
  engine.reserved_bytes = needs.bytes;
  engine.reserved_bytes_per_token = needs.bytes_per_token;
  return {};
}

Result<std::vector<std::string>> api_keys(const ServeOptions& options) {
  std::vector<std::string> keys = options.server.api_keys;
  if (const char* key = std::getenv(kKeyVariable); key != nullptr && *key != '\0') keys.emplace_back(key);
  if (options.api_key_file.empty()) return keys;
  ODMOE_ASSIGN_OR_RETURN(const std::string text, read_file(options.api_key_file));
  if (is_open_to_others(options.api_key_file)) {
    (void)Output::standard_error().write(odmoe::format(
        "odmoe: --api-key-file {}: other users can read it; chmod 600 it\n", options.api_key_file));
  }
  std::istringstream lines(text);
  const size_t before = keys.size();
  for (std::string line; std::getline(lines, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line[0] != '#') keys.push_back(line);
  }
  if (keys.size() == before) {
    return fail(ErrorKind::kUsage, "--api-key-file {}: it holds no key; write one per line",
                options.api_key_file);
  }
  return keys;
}

}  // namespace odmoe::cli
