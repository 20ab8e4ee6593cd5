// `odmoe serve`: APIs over HTTP (dialect.h), in front of one engine.
//
// It listens before the model is there, and says so: /health answers "loading" and requests get 503 until
// serve() is called.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "odmoe/engine.h"
#include "server/dialects.h"
#include "server/limits.h"
#include "server/prompt_cache.h"
#include "server/vision.h"

namespace odmoe::server {

class BatchStore;

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: any that is free
  // Who may ask: "Authorization: Bearer KEY", or "x-api-key: KEY".  None: everybody.
  std::vector<std::string> api_keys;
  std::vector<std::string> cors_origins;  // pages that may ask from a browser; "*": all
  // Names of this machine beside localhost, NAME or NAME:PORT, that are answered to on a loopback address.
  std::vector<std::string> allowed_hosts;
  std::string model_id;  // as /v1/models names it
  ChatTemplateChoice chat_template;
  size_t max_body_bytes = 0;  // 0: default_max_body_bytes()
  size_t max_connections = 64;
  size_t max_queue = 64;
  std::chrono::seconds timeout{0};  // of a request, from its arrival to its last token; 0: none
  uint64_t prompt_cache_bytes = 0;  // EngineOptions::reserved_bytes is as much
  std::filesystem::path cache_dir;  // where timelines are kept; empty: nowhere
  uint64_t cache_dir_bytes = 0;     // of it, at most
  uint64_t response_store_bytes = kDefaultResponseStoreBytes;  // of responses that are kept; 0: none are
  PromptReuse prompt_reuse = PromptReuse::kConversation;
  std::filesystem::path batch_dir;                     // of files and batches; empty: there are none
  uint64_t batch_disk_bytes = kDefaultBatchDiskBytes;  // that it may take
  int32_t batch_width = 4;     // of EngineOptions::sessions, those for batches, where there are any
  bool share_prompts = false;  // texts of one key are used again for another's requests, who can tell so
  VisionOptions vision;
  Status validate() const;  // kUsage naming the option
};

// Thread-safe.
class Server {
 public:
  // Listens at once, to clients of these dialects, or of all that there are.  kUsage or kIo when it cannot:
  // the address is taken, or no such host; another process has the folder of the batches.
  static Result<std::unique_ptr<Server>> listen(const ServerOptions& options, Dialects dialects);
  static Result<std::unique_ptr<Server>> listen(const ServerOptions& options);
  // Ends as stop() does.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const;
  std::string url() const;

  // From now on requests are served, with all of the engine's sessions.  The engine must outlive the server.
  Status serve(Engine& engine, const EngineOptions& engine_options);

  // New requests get 503; true once those under way are answered, false when the limit came first.
  bool drain(std::chrono::milliseconds limit);
  // Ends everything: requests under way fail with 503.
  void stop();

 private:
  class Impl;
  static Result<std::unique_ptr<Server>> listen(const ServerOptions& options, Dialects dialects,
                                                std::shared_ptr<BatchStore> batches);
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Whether the texts are equal, in a time that does not tell where they differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);
// Whether this host name, as a Host header has it, is the machine itself.
bool is_loopback_host(std::string_view host);

}  // namespace odmoe::server
