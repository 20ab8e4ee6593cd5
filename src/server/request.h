// OpenAI's words for what is to be generated: the bodies of /v1/completions and /v1/chat/completions, and
// those of llama.cpp's /tokenize and /detokenize.
//
// Which fields are honoured, refused by name or passed over is in request_fields.h.  What is honoured is read
// as OpenAI defines it, and as leniently as most servers do: null is as good as missing, 5.0 is 5, and
// whatever an answer of ours said may come back in a message.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/session.h"
#include "server/api_error.h"
#include "server/generation_request.h"
#include "server/request_memory.h"

namespace odmoe::server {

// Within the bounds of `work`, which keeps what the request takes; null: without.
ApiResult<CompletionRequest> parse_completion_request(std::string_view body, int32_t n_vocab,
                                                      RequestWork* work = nullptr);
ApiResult<ChatRequest> parse_chat_request(std::string_view body, int32_t n_vocab,
                                          RequestWork* work = nullptr);

struct TokenizeRequest {
  std::string content;
  bool add_special = false;
  bool parse_special = true;
  bool with_pieces = false;
};
ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body, RequestWork* work = nullptr);
ApiResult<std::vector<Token>> parse_detokenize_request(std::string_view body, int32_t n_vocab,
                                                       RequestWork* work = nullptr);

}  // namespace odmoe::server
