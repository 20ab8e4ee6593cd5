// Makes of a request what the scheduler generates: its prompts as tokens, its grammar, its images described.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/work.h"
#include "server/api_error.h"
#include "server/call.h"
#include "server/dialect.h"
#include "server/generation_request.h"
#include "server/request_memory.h"
#include "server/served_model.h"
#include "server/server.h"
#include "server/vision.h"

namespace odmoe::server {

// What tells an answer from all others.
struct AnswerMark {
  std::string id;  // AnswerStart's
  int64_t created = 0;
  uint64_t seed = 0;  // of a request that has none
};

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
// Who asks.
struct Client {
  std::string owner;  // access.h
  std::function<bool()> gone = {};
  std::optional<AnswerMark> mark = {};  // nothing: a new one
  bool patient = false;                 // Generation::patient
  // Generation::keeper of a choice, which goes on from what is kept; empty: there are none.
  std::function<std::shared_ptr<GenerationKeeper>(size_t choice)> keeper = {};
};
// NOLINTEND(readability-redundant-member-init)

// Thread-safe.
class Generator {
 public:
  // `options` must outlive it.
  Generator(const ServerOptions& options, std::shared_ptr<RequestMemory> memory);

  // What an answer of the model begins with, its prompt apart.
  AnswerStart start_of(const ServedModel& model, const Client& client) const;

  // The prompt of the request.
  ApiResult<std::vector<Token>> prompt(ServedModel& model, ChatRequest request, const Client& client,
                                       RequestWork& work);

  // Has the scheduler generate what the request asks for.  `work` holds what the request takes, and is kept
  // with the call.
  ApiResult<std::shared_ptr<Call>> start(const std::shared_ptr<ServedModel>& model, ParsedRequest parsed,
                                         const Client& client, RequestWork& work);

 private:
  using Grammar = std::shared_ptr<const grammar::Grammar>;
  struct Plan;
  ApiStatus prepare(CompletionRequest& request, const Client& client, RequestWork& work, Call& call,
                    Plan& plan);
  ApiStatus prepare(ChatRequest& request, const Client& client, RequestWork& work, Call& call, Plan& plan);
  // What a conversation comes to.
  struct ChatPrompt {
    std::vector<Token> tokens;
    bool may_call = false;   // there are tools, and the model may use them
    bool may_think = false;  // nothing forbids it
  };
  ApiResult<ChatPrompt> prompt_of(ServedModel& model, ChatRequest& request, const Client& client,
                                  RequestWork& work);
  ApiStatus describe_images(const Client& client, ChatRequest& chat, RequestWork& work);
  ApiResult<Grammar> compiled(RequestWork& work, bool wanted,
                              const std::function<ApiResult<Grammar>(grammar::Stop)>& compile);

  const ServerOptions* options_;
  const std::shared_ptr<RequestMemory> memory_;
  Vision vision_;
  std::timed_mutex compiling_;  // held while a grammar is made
};

}  // namespace odmoe::server
