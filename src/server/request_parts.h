// The parts of a request, each read by a file of its own; request.cc puts them together.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "server/fields.h"
#include "server/request.h"

namespace odmoe::server {

// request_sampling.cc: what both endpoints take, the form of the answer apart.
ApiStatus read_sampling(const Fields& fields, int32_t n_vocab, CommonRequest& request);
// Tokens of a vocabulary of n_vocab; `list` is an array.
ApiResult<std::vector<Token>> read_tokens(const Json& list, const std::string& param, int32_t n_vocab);

// request_format.cc
ApiStatus read_format(const Fields& fields, CommonRequest& request, RequestWork& work);

// request_tools.cc: tools, tool_choice, parallel_tool_calls.
ApiStatus read_tools(const Fields& fields, ChatRequest& request);

// request_thinking.cc: whether the model is to think, by the names that templates and APIs have for it.
ApiStatus read_thinking(const Fields& fields, Conversation& conversation);

// request_messages.cc: messages, continue_final_message, add_generation_prompt.
ApiStatus read_messages(const Fields& fields, ChatRequest& request, RequestWork& work);

}  // namespace odmoe::server
