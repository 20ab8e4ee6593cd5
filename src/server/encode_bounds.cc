#include "server/encode_bounds.h"

#include <algorithm>

#include "odmoe/session.h"

namespace odmoe::server {

TokenBounds token_bounds(RequestWork& work, size_t tokens, size_t text_bytes) {
  // A quarter of what a request may have is for merging, the rest for the text and its tokens.
  const size_t word_bytes = work.most() / 4 / kMergeBytesPerByte;
  return {.limits = {.tokens = tokens,
                     .word_bytes = word_bytes,
                     .goes_on = [&work] { return work.hurries_on(); }},
          // The last word may become more tokens than are wanted, which is known when they are there.
          .bytes = std::min(word_bytes, text_bytes) * (kMergeBytesPerByte + 2 * sizeof(Token)) +
                   std::min(tokens, text_bytes + 2) * sizeof(Token)};
}

ApiError not_encoded(const Error& error, const RequestWork& work, const char* param) {
  if (error.kind == ErrorKind::kInterrupted) {
    if (const ApiStatus status = work.goes_on(); !status.has_value()) return status.error();
  }
  if (error.kind != ErrorKind::kBudget) return from_engine(error);
  return {.status = 400, .fault = Fault::kRequest, .message = error.message, .param = param};
}

void forget_body(std::string& body, RequestWork& work) {
  const uint64_t bytes = body.size();
  body = std::string();
  work.give_back_to(work.bytes() - std::min(work.bytes(), bytes));
}

}  // namespace odmoe::server
