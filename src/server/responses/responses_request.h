// OpenAI's /v1/responses: the body of a request, as what is to be generated and how its answer is written.
//
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/api_error.h"
#include "server/generation_request.h"
#include "server/json_guard.h"
#include "server/request_fields.h"
#include "server/request_memory.h"
#include "server/responses/response_store.h"

namespace odmoe::server {

// What of a request its answer is written with.  Immutable once it is read.
struct ResponseSettings {
  std::string echo;           // members of the answer that say again what was asked for: ,"temperature":1,...
  int32_t top_logprobs = -1;  // -1: none
  bool summarize = false;     // thoughts come as summaries, which have their whole text
  bool encrypted = false;     // and also as text that only this server reads
  // Where the answer is kept; null: nowhere.
  std::shared_ptr<ResponseStore> store;
  std::string owner, previous;
  std::shared_ptr<const void> hold;     // of what it goes on from
  std::vector<ResponseItemText> input;  // what is kept of it; items without an id get one
  uint64_t bytes() const;               // that it takes of the request's memory
};

struct ResponsesRequest {
  ChatRequest chat;
  ResponseSettings settings;
};

// Within the bounds of `work`, which keeps what the request takes, settings().bytes() with it; null: without.
// `store`: where earlier responses are; null: nowhere.
ApiResult<ResponsesRequest> parse_responses_request(std::string_view body, int32_t n_vocab,
                                                    const std::shared_ptr<ResponseStore>& store,
                                                    RequestWork* work = nullptr);

// responses_fields.cc: the fields that it has of its own; others are a chat's (request_fields.h), and those
// that only a chat honours are refused.  In the order of their names.
std::span<const FieldRule> responses_field_rules();

// responses_input.cc: "input", behind what it goes on from and "instructions".  Fills the settings' input,
// owner, previous and hold.
ApiStatus read_responses_input(const Json& body, const std::shared_ptr<ResponseStore>& store,
                               ResponsesRequest& request, RequestWork& work);

// A thought as text that says nothing to others and can be read again.
std::string sealed_thought(std::string_view thought);

}  // namespace odmoe::server
