// What the server takes of memory beside the engine, for the memory plan.
#pragma once

#include <cstddef>
#include <cstdint>

#include "server/server.h"

namespace odmoe::server {

// ServerOptions::max_body_bytes where it is not chosen: what fills a context of so many tokens (0: not chosen
// either) many times over, from kLeastMaxBodyBytes to kMaxBodyBytes; kMaxImageBodyBytes where images are
// taken.
size_t default_max_body_bytes(const ServerOptions& options, int32_t context);
size_t max_body_bytes(const ServerOptions& options);

// The account that requests share (request_memory.h): so much that one body of max_body_bytes can be read,
// whatever is in it.
uint64_t request_memory_bytes(const ServerOptions& options);

struct ServerNeeds {
  uint64_t bytes =
      0;  // EngineOptions::reserved_bytes: prompt cache, responses, requests, connections, grammars
  uint64_t bytes_per_token = 0;  // EngineOptions::reserved_bytes_per_token
};
ServerNeeds server_needs(const ServerOptions& options, int32_t sessions);

}  // namespace odmoe::server
