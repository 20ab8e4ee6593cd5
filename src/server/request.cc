#include "server/request.h"

#include <utility>

#include "server/limits.h"
#include "server/request_body.h"
#include "server/request_fields.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

// How many alternatives, as completions have it; some clients send chat's true or false.
ApiStatus read_logprobs(const Fields& fields, int32_t& top_logprobs) {
  const Json* json = fields.find("logprobs");
  if (json == nullptr || *json == false) return {};
  if (*json == true) {
    top_logprobs = 0;
    return {};
  }
  return fields.read("logprobs", top_logprobs, 0, kMaxTopLogprobs);
}

ApiResult<CompletionRequest> read_completion(const Json& json, int32_t n_vocab, RequestWork& work) {
  ODMOE_RETURN_IF_ERROR(check_fields(json, Endpoint::kCompletions));
  const Fields fields(json);
  CompletionRequest request;
  request.max_tokens = 16;  // as OpenAI's
  ODMOE_RETURN_IF_ERROR(read_sampling(fields, n_vocab, request));
  ODMOE_RETURN_IF_ERROR(read_format(fields, request, work));
  ODMOE_RETURN_IF_ERROR(read_logprobs(fields, request.top_logprobs));

  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return bad_request("prompt", "prompt is missing");
  const bool list_of_many = prompt->is_array() && !prompt->empty() && !(*prompt)[0].is_number();
  const size_t n_prompt = list_of_many ? prompt->size() : 1;
  if (n_prompt > kMaxPrompts) return bad_request("prompt", "there may be {} prompts at most", kMaxPrompts);
  for (size_t i = 0; i < n_prompt; ++i) {
    const Json& one = list_of_many ? (*prompt)[i] : *prompt;
    if (one.is_string()) {
      request.prompts.emplace_back(one.get<std::string>());
    } else if (one.is_array()) {
      ODMOE_ASSIGN_OR_RETURN(auto tokens, read_tokens(one, "prompt", n_vocab));
      request.prompts.emplace_back(std::move(tokens));
    } else {
      return bad_request("prompt", "prompt must be a string, tokens, or a list of such");
    }
  }
  if (request.prompts.size() * static_cast<size_t>(request.n) > kMaxGenerations) {
    return bad_request("n", "prompts times n may be {} at most", kMaxGenerations);
  }
  return request;
}

ApiResult<ChatRequest> read_chat(const Json& json, int32_t n_vocab, RequestWork& work) {
  ODMOE_RETURN_IF_ERROR(check_fields(json, Endpoint::kChat));
  const Fields fields(json);
  ChatRequest request;
  ODMOE_RETURN_IF_ERROR(read_sampling(fields, n_vocab, request));
  ODMOE_RETURN_IF_ERROR(read_format(fields, request, work));
  ODMOE_RETURN_IF_ERROR(read_chat_logprobs(fields, request.top_logprobs));
  ODMOE_RETURN_IF_ERROR(read_tools(fields, request));
  ODMOE_RETURN_IF_ERROR(read_thinking(fields, request));
  ODMOE_RETURN_IF_ERROR(read_messages(fields, request, work));
  return request;
}

ApiResult<TokenizeRequest> read_tokenize(const Fields& fields) {
  TokenizeRequest request;
  if (!fields.has("content") && !fields.has("prompt")) return bad_request("content", "content is missing");
  ODMOE_RETURN_IF_ERROR(fields.read(fields.has("content") ? "content" : "prompt", request.content));
  ODMOE_RETURN_IF_ERROR(fields.read("add_special", request.add_special));
  ODMOE_RETURN_IF_ERROR(fields.read("parse_special", request.parse_special));
  ODMOE_RETURN_IF_ERROR(fields.read("with_pieces", request.with_pieces));
  return request;
}

ApiResult<std::vector<Token>> read_detokenize(const Fields& fields, int32_t n_vocab) {
  const Json* tokens = fields.find("tokens");
  if (tokens == nullptr || !tokens->is_array())
    return bad_request("tokens", "tokens must be a list of tokens");
  return read_tokens(*tokens, "tokens", n_vocab);
}

}  // namespace

// A switch, with the number beside it; some clients send the completions' number, of which 0 is off here.
ApiStatus read_chat_logprobs(const Fields& fields, int32_t& top_logprobs) {
  const Json* json = fields.find("logprobs");
  bool logprobs = false;
  int32_t top = 0;
  if (json != nullptr && json->is_number()) {
    ODMOE_RETURN_IF_ERROR(fields.read("logprobs", top, 0, kMaxTopLogprobs));
    logprobs = top > 0;
  } else {
    ODMOE_RETURN_IF_ERROR(fields.read("logprobs", logprobs));
  }
  ODMOE_RETURN_IF_ERROR(fields.read("top_logprobs", top, 0, kMaxTopLogprobs));
  if (logprobs) {
    top_logprobs = top;
  } else if (top > 0) {
    return bad_request("top_logprobs", "top_logprobs is only allowed with logprobs: true");
  }
  return {};
}

ApiResult<CompletionRequest> parse_completion_request(std::string_view body, int32_t n_vocab,
                                                      RequestWork* work) {
  return read_body<CompletionRequest>(body, work, [&](const Json& json, RequestWork& share) {
    return read_completion(json, n_vocab, share);
  });
}

ApiResult<ChatRequest> parse_chat_request(std::string_view body, int32_t n_vocab, RequestWork* work) {
  return read_body<ChatRequest>(
      body, work, [&](const Json& json, RequestWork& bounds) { return read_chat(json, n_vocab, bounds); });
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body, RequestWork* work) {
  return read_body<TokenizeRequest>(
      body, work, [&](const Json& json, RequestWork&) { return read_tokenize(Fields(json)); });
}

ApiResult<std::vector<Token>> parse_detokenize_request(std::string_view body, int32_t n_vocab,
                                                       RequestWork* work) {
  return read_body<std::vector<Token>>(
      body, work, [&](const Json& json, RequestWork&) { return read_detokenize(Fields(json), n_vocab); });
}

}  // namespace odmoe::server
