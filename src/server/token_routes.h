// /tokenize and /detokenize.
#pragma once

#include <httplib.h>

#include <string>

#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/request_memory.h"

namespace odmoe::server {

// The engine must outlive the response's answer, which is written in pieces.  `work` bounds what is taken,
// and is kept with the answer.
ApiStatus answer_tokenize(const Engine& engine, std::string body, RequestWork& work,
                          httplib::Response& response);
ApiStatus answer_detokenize(const Engine& engine, std::string body, RequestWork& work,
                            httplib::Response& response);

// How much of a text may be made into tokens for a request, whose memory for it has to be taken with it.
struct TokenBounds {
  EncodeLimits limits;
  uint64_t bytes = 0;
};
// At most so many tokens of a text of so many bytes.  `work` must outlive the limits.
TokenBounds token_bounds(RequestWork& work, size_t tokens, size_t text_bytes);
// What to answer when a text could not be made into tokens.
ApiError not_encoded(const Error& error, const RequestWork& work, const char* param);

}  // namespace odmoe::server
