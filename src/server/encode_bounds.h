// How much of a text may be made into tokens for a request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "odmoe/encode_limits.h"
#include "server/api_error.h"
#include "server/request_memory.h"

namespace odmoe::server {

// Its memory has to be taken with it.
struct TokenBounds {
  EncodeLimits limits;
  uint64_t bytes = 0;
};
// At most so many tokens of a text of so many bytes.  `work` must outlive the limits.
TokenBounds token_bounds(RequestWork& work, size_t tokens, size_t text_bytes);
// What to answer when a text could not be made into tokens.
ApiError not_encoded(const Error& error, const RequestWork& work, const char* param);

// A body that was read to its end takes no memory any more.
void forget_body(std::string& body, RequestWork& work);

}  // namespace odmoe::server
