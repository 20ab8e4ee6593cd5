// Answers the requests of a batch: the server's way from a request to its answer (dialect.h, generator.h,
// scheduler.h) without HTTP.
//
// Many requests are under way at once, and no answer depends on which: a prompt is divided into chunks from
// its first token on whatever was there before (PromptReuse::kExact), what is not asked for is drawn with a
// seed that comes from the request's line, and its id likewise.  An answer says nothing of what was there
// before ("cached_tokens" is 0), and "created", like the date in a chat template, is when the batch was
// begun.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "odmoe/engine.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_journal.h"
#include "server/batch/batch_output.h"
#include "server/request_memory.h"
#include "server/served_model.h"
#include "server/server.h"

namespace odmoe::server {

// What a line may ask.
inline constexpr std::array<std::string_view, 3> kBatchUrls = {"/v1/chat/completions", "/v1/completions",
                                                               "/v1/responses"};

struct BatchOptions {
  std::string model_id;  // as answers name it
  ChatTemplateChoice chat_template;
  uint64_t prompt_cache_bytes = 0;  // PromptCacheOptions::memory_bytes
  uint64_t state_bytes = 0;         // BatchJournalOptions::state_bytes
  // Of the requests, for the memory that they take: BatchInput has both.
  size_t longest_bytes = 0;  // 0: not known
  bool may_ask_for_grammars = true;
};

// What a batch takes of memory beside the engine: EngineOptions::reserved_bytes and ..._per_token.
struct BatchNeeds {
  uint64_t bytes = 0, bytes_per_token = 0;
};
BatchNeeds batch_needs(const BatchOptions& options, int32_t sessions);

// All that decides about the answers: two batches of equal identities have equal ones.  Errors as
// Engine::state_identity().
Result<std::string> batch_identity(const Engine& engine, const BatchOptions& options,
                                   const BatchInput& input);

struct BatchCounts {
  size_t total = 0, done = 0;
  size_t before = 0;              // of those done, by an earlier process
  size_t failed = 0;              // of those done here: their answer is an error
  uint64_t prompt_tokens = 0;     // of those done here
  uint64_t generated_tokens = 0;  // here, of those under way too
};

// Who answers.
struct BatchService {
  std::shared_ptr<ServedModel> model;
  std::shared_ptr<RequestMemory> memory;  // of requests under way
  ServerOptions server;                   // of which a batch has use for few
  std::string owner;                      // whose batch it is: Generation::owner
  bool patient = false;                   // Generation::patient
};

// A line of the answers for a request that was not answered.
std::string unanswered_line(const BatchRequest& request, const BatchLineError& error);

// Answers what `output` lacks.  `watch` is called many times a second; false ends it: kInterrupted, and the
// same call goes on some day.  A request that cannot be answered gets an error for an answer; kIo, when a
// drive fails, leaves it for the next time.  `journal`: what those under way go on from; null: they begin
// anew.
Result<BatchCounts> answer_batch(const BatchService& service, const BatchInput& input, BatchOutput& output,
                                 const std::shared_ptr<BatchJournal>& journal,
                                 const std::function<bool(const BatchCounts&)>& watch);

// Of those that go to `output`.  `has_room`: BatchJournalOptions::has_room.  Errors as BatchJournal::open()
// and Engine::state_identity().
Result<std::shared_ptr<BatchJournal>> open_journal(const Engine& engine, uint64_t state_bytes, int32_t chunk,
                                                   const BatchOutput& output,
                                                   std::function<bool(uint64_t bytes)> has_room = {});

// The same with all of the engine's sessions, which nobody else uses, and nothing left to do afterwards.
Result<BatchCounts> run_batch(Engine& engine, const EngineOptions& engine_options,
                              const BatchOptions& options, const BatchInput& input, BatchOutput& output,
                              const std::function<bool(const BatchCounts&)>& watch);

}  // namespace odmoe::server
