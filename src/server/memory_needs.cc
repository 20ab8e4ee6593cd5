#include "server/memory_needs.h"

#include <algorithm>

#include "base/ordered_json.h"
#include "grammar/json_schema.h"
#include "grammar/token_mask.h"
#include "server/batch/batch_worker.h"
#include "server/limits.h"

namespace odmoe::server {

size_t default_max_body_bytes(const ServerOptions& options, int32_t context) {
  if (!options.vision.url.empty()) return kMaxImageBodyBytes;
  // The engine's own choice where none was made is no larger.
  constexpr int32_t kDefaultContext = 4096;
  const auto tokens = static_cast<size_t>(context > 0 ? context : kDefaultContext);
  return std::min(kLeastMaxBodyBytes + tokens * kBodyBytesPerToken, kMaxBodyBytes);
}

size_t max_body_bytes(const ServerOptions& options) {
  return options.max_body_bytes > 0 ? options.max_body_bytes : default_max_body_bytes(options, 0);
}

uint64_t request_memory_bytes(const ServerOptions& options) {
  const uint64_t body = max_body_bytes(options);
  // The body, its values and what is made of them, and what reading its longest string takes meanwhile.
  return 3 * body + std::min<uint64_t>(body, kMaxJsonStringBytes) * kJsonReaderBytesPerByte +
         kRequestMemoryBytes;
}

ServerNeeds server_needs(const ServerOptions& options, int32_t sessions) {
  const auto n_session = static_cast<uint64_t>(sessions);
  // A thread each, and what it reads into.
  const uint64_t connections = (options.max_connections + kRefusalThreads) * kConnectionBytes;
  const uint64_t ledger = options.prompt_reuse == PromptReuse::kConversation ? kTurnLedgerBytes : 0;
  // What has room for batches' own requests besides makes their grammars.
  const uint64_t batches = options.batch_dir.empty()
                               ? 0
                               : batch_worker_bytes(options, options.batch_width) + grammar::kMaxCompileBytes;
  return {.bytes = batches + options.prompt_cache_bytes + ledger + options.response_store_bytes +
                   request_memory_bytes(options) + connections + grammar::kMaxCompileBytes +
                   n_session * grammar::max_matcher_bytes(0),
          // Of each session: logits with bias and grammar, the sampler's candidates, masks of a bit; and the
          // vocabulary in the order of its bytes, with logprobs' order of all tokens.
          .bytes_per_token = n_session * (sizeof(float) + 12 + grammar::kMaxMasks / 8) + 40};
}

}  // namespace odmoe::server
