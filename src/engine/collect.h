// Runs a model over text and records what its routers see and choose.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/engine.h"
#include "predict/routing_data.h"

namespace odmoe {

struct CorpusText {
  std::string name;  // of the file
  std::string_view text;
};

struct CollectOptions {
  std::filesystem::path folder;  // of the collection
  std::string tool;              // what wrote it
  std::vector<CorpusText> corpus;
  int64_t n_token = 50'000;
  int32_t document_tokens = 512;  // texts are cut into documents of so many; at most the context
  int32_t n_generate = 0;         // of each document, tokens that the model writes itself, at its end
  uint64_t seed = 0;              // of what it writes
  RecordedStates states;
  uint64_t shard_bytes = uint64_t{32}
                         << 20U;  // of a shard unpacked, about; what an interruption loses at most
  // Called after every document; false stops with kInterrupted.
  std::function<bool(int64_t n_token, int64_t n_token_total)> progress;
};

// Records about n_token tokens of documents spread evenly over the corpus, each in a timeline of its own,
// into a folder that is made if need be.  The same call again goes on where an interruption or error stopped
// it, and the result is the same as without; on a complete collection it does nothing. The engine must have
// a session to spare and no observer, and nobody else may use it meanwhile: what other sessions evaluated
// would be recorded, too.  States take the memory of a shard, and of a document, beyond its budget. Errors:
// kUsage (an option makes no sense; too little text; the folder holds data collected otherwise), those of the
// engine, kIo.
Result<Collection> collect(Engine& engine, const CollectOptions& options);

// The same without states, in memory: a shard for each document.  An interruption ends it early, without
// error.
Result<std::vector<RoutingShard>> collect_routing(Engine& engine, const CollectOptions& options);

}  // namespace odmoe
