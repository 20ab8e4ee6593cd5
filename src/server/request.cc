#include "server/request.h"

#include <utility>

#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

ApiResult<Json> parse_object(std::string_view body) {
  ODMOE_ASSIGN_OR_RETURN(Json json, parse_json(body));
  if (!json.is_object()) return bad_request("", "the body must be a JSON object");
  return json;
}

// Fields of OpenAI's that would change the answer and that nobody here can honour.
ApiStatus refuse_unsupported(const Fields& fields,
                             std::initializer_list<std::pair<const char*, const char*>> keys) {
  for (const auto& [key, advice] : keys) {
    const Json* json = fields.find(key);
    if (json == nullptr || (json->is_string() && json->get<std::string>().empty())) continue;
    return bad_request(key, "{} is not supported{}{}", key, *advice != '\0' ? ": " : "", advice);
  }
  return {};
}

// The switch that templates have, by the names that they and their users give it.
ApiStatus read_thinking(const Fields& fields, Conversation& conversation) {
  const auto read = [&](const Fields& from, const char* name) -> ApiStatus {
    if (!from.has(name)) return {};
    bool thinking = true;
    ODMOE_RETURN_IF_ERROR(from.read(name, thinking));
    conversation.thinking = thinking;
    return {};
  };
  ODMOE_RETURN_IF_ERROR(read(fields, "enable_thinking"));
  if (const Json* options = fields.find("chat_template_kwargs"); options != nullptr && options->is_object()) {
    const Fields inner(*options, "chat_template_kwargs.");
    ODMOE_RETURN_IF_ERROR(read(inner, "enable_thinking"));
    ODMOE_RETURN_IF_ERROR(read(inner, "thinking"));
  }
  return {};
}

}  // namespace

ApiResult<CompletionRequest> parse_completion_request(std::string_view body, int32_t n_vocab) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Fields fields(json);
  CompletionRequest request;
  request.max_tokens = 16;  // as OpenAI's
  ODMOE_RETURN_IF_ERROR(read_sampling(fields, n_vocab, request));
  ODMOE_RETURN_IF_ERROR(read_response_format(fields, request));
  ODMOE_RETURN_IF_ERROR(
      refuse_unsupported(fields, {{"suffix", "write the text so that it ends where to go on"}}));
  int32_t best_of = request.n;
  ODMOE_RETURN_IF_ERROR(fields.read("best_of", best_of, 1, kMaxChoices));
  if (best_of != request.n) return bad_request("best_of", "best_of must be equal to n");
  ODMOE_RETURN_IF_ERROR(fields.read("echo", request.echo));
  ODMOE_RETURN_IF_ERROR(fields.read("logprobs", request.top_logprobs, 0, kMaxTopLogprobs));

  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return bad_request("prompt", "prompt is missing");
  const bool list_of_many = prompt->is_array() && !prompt->empty() && !(*prompt)[0].is_number();
  const Json prompts = list_of_many ? *prompt : Json::array({*prompt});
  if (prompts.size() > kMaxPrompts)
    return bad_request("prompt", "there may be {} prompts at most", kMaxPrompts);
  for (const Json& one : prompts) {
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

ApiResult<ChatRequest> parse_chat_request(std::string_view body, int32_t n_vocab) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Fields fields(json);
  ChatRequest request;
  ODMOE_RETURN_IF_ERROR(read_sampling(fields, n_vocab, request));
  ODMOE_RETURN_IF_ERROR(read_response_format(fields, request));
  if (request.max_tokens == 0) return bad_request("max_tokens", "max_tokens must be 1 or more");
  ODMOE_RETURN_IF_ERROR(refuse_unsupported(fields, {{"functions", "use tools"},
                                                    {"function_call", "use tool_choice"},
                                                    {"audio", ""},
                                                    {"prediction", ""},
                                                    {"web_search_options", ""}}));
  if (const Json* modalities = fields.find("modalities");
      modalities != nullptr && *modalities != Json::array({"text"})) {
    return bad_request("modalities", "modalities may only be [\"text\"]");
  }
  bool logprobs = false;
  ODMOE_RETURN_IF_ERROR(fields.read("logprobs", logprobs));
  if (logprobs) request.top_logprobs = 0;
  if (fields.has("top_logprobs")) {
    if (!logprobs) return bad_request("top_logprobs", "top_logprobs is only allowed with logprobs: true");
    ODMOE_RETURN_IF_ERROR(fields.read("top_logprobs", request.top_logprobs, 0, kMaxTopLogprobs));
  }
  ODMOE_RETURN_IF_ERROR(read_tools(fields, request));
  ODMOE_RETURN_IF_ERROR(read_thinking(fields, request.conversation));
  ODMOE_RETURN_IF_ERROR(read_messages(fields, request));
  return request;
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Fields fields(json);
  TokenizeRequest request;
  if (!fields.has("content") && !fields.has("prompt")) return bad_request("content", "content is missing");
  ODMOE_RETURN_IF_ERROR(fields.read(fields.has("content") ? "content" : "prompt", request.content));
  ODMOE_RETURN_IF_ERROR(fields.read("add_special", request.add_special));
  ODMOE_RETURN_IF_ERROR(fields.read("parse_special", request.parse_special));
  ODMOE_RETURN_IF_ERROR(fields.read("with_pieces", request.with_pieces));
  return request;
}

ApiResult<std::vector<Token>> parse_detokenize_request(std::string_view body, int32_t n_vocab) {
  ODMOE_ASSIGN_OR_RETURN(const Json json, parse_object(body));
  const Json* tokens = Fields(json).find("tokens");
  if (tokens == nullptr || !tokens->is_array())
    return bad_request("tokens", "tokens must be a list of tokens");
  return read_tokens(*tokens, "tokens", n_vocab);
}

}  // namespace odmoe::server
