#include "server/ollama_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "server/request_body.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

using enum FieldRule::Treatment;

constexpr const char* kTooLong = "a prompt that is too long is an error";
constexpr const char* kFull = "a text is never shortened: one that is full ends";
constexpr const char* kOwnTemplate =
    "the model's own template and --chat-template decide how messages are written";
constexpr const char* kOneModel = "there is one model, which stays";

constexpr auto kOllamaChatRules = std::to_array<FieldRule>({
    own_rule("_debug_render_only", kRefused, "[false]"),
    own_rule("context", kRefused, "", "send the whole conversation"),
    own_rule("format", kHonoured),
    own_rule("images", kRefused, "", "put them into messages"),
    own_rule("keep_alive", kHonoured),
    own_rule("logprobs", kHonoured),
    own_rule("messages", kHonoured),
    own_rule("model", kHonoured),
    own_rule("name", kHonoured),
    own_rule("num_predict", kRefused, "", "give it in options"),
    own_rule("options", kHonoured),
    own_rule("parallel_tool_calls", kHonoured),
    own_rule("prompt", kRefused, "", "use messages"),
    own_rule("raw", kRefused, "[false]", "use /api/generate"),
    own_rule("response_format", kRefused, "", "use format"),
    own_rule("shift", kRefused, "[false]", kFull),
    own_rule("stream", kHonoured),
    own_rule("suffix", kRefused, "", "use messages"),
    own_rule("system", kRefused, "", "use a message of role system"),
    own_rule("template", kRefused, "", kOwnTemplate),
    own_rule("think", kHonoured),
    own_rule("tool_choice", kHonoured),
    own_rule("tools", kHonoured),
    own_rule("top_logprobs", kHonoured),
    own_rule("truncate", kRefused, "[false]", kTooLong),
});
static_assert(std::ranges::is_sorted(kOllamaChatRules, {}, &FieldRule::name));

constexpr auto kOllamaGenerateRules = std::to_array<FieldRule>({
    own_rule("_debug_render_only", kRefused, "[false]"),
    own_rule("context", kRefused, "", "use /api/chat with the whole conversation"),
    own_rule("format", kHonoured),
    own_rule("height", kRefused, "[0]", "the model writes text"),
    own_rule("images", kHonoured),
    own_rule("keep_alive", kHonoured),
    own_rule("logprobs", kHonoured),
    own_rule("messages", kRefused, "", "use /api/chat"),
    own_rule("model", kHonoured),
    own_rule("name", kHonoured),
    own_rule("num_predict", kRefused, "", "give it in options"),
    own_rule("options", kHonoured),
    own_rule("prompt", kHonoured),
    own_rule("raw", kHonoured),
    own_rule("response_format", kRefused, "", "use format"),
    own_rule("shift", kRefused, "[false]", kFull),
    own_rule("steps", kRefused, "[0]", "the model writes text"),
    own_rule("stream", kHonoured),
    own_rule("suffix", kRefused, "", "write the prompt so that it ends where to go on"),
    own_rule("system", kHonoured),
    own_rule("template", kRefused, "", kOwnTemplate),
    own_rule("think", kHonoured),
    own_rule("tools", kRefused, "", "use /api/chat"),
    own_rule("top_logprobs", kHonoured),
    own_rule("truncate", kRefused, "[false]", kTooLong),
    own_rule("width", kRefused, "[0]", "the model writes text"),
});
static_assert(std::ranges::is_sorted(kOllamaGenerateRules, {}, &FieldRule::name));

constexpr const char* kLoading = "it says how the model is loaded, which it is";

constexpr auto kOllamaOptionRules = std::to_array<FieldRule>({
    own_rule("draft_num_predict", kHarmless, "", "it is about speed"),
    own_rule("embedding_only", kHarmless, "", kLoading),
    own_rule("f16_kv", kHarmless, "", kLoading),
    own_rule("frequency_penalty", kHonoured),
    own_rule("ignore_eos", kHonoured),
    own_rule("logit_bias", kHonoured),
    own_rule("logits_all", kHarmless, "", kLoading),
    own_rule("low_vram", kHarmless, "", kLoading),
    own_rule("main_gpu", kHarmless, "", kLoading),
    own_rule("max_tokens", kRefused, "", "use num_predict"),
    own_rule("min_p", kHonoured),
    own_rule("num_batch", kHarmless, "", kLoading),
    own_rule("num_ctx", kHarmless, "", "the context is the server's, and a prompt that is too long an error"),
    own_rule("num_gpu", kHarmless, "", kLoading),
    own_rule("num_keep", kHarmless, "", kFull),
    own_rule("num_predict", kHonoured),
    own_rule("num_thread", kHarmless, "", kLoading),
    own_rule("numa", kHarmless, "", kLoading),
    own_rule("penalize_newline", kRefused, "[true]", "penalties count every token"),
    own_rule("presence_penalty", kHonoured),
    own_rule("repeat_last_n", kHonoured),
    own_rule("repeat_penalty", kHonoured),
    own_rule("repetition_penalty", kHonoured),
    own_rule("seed", kHonoured),
    own_rule("stop", kHonoured),
    own_rule("stop_token_ids", kHonoured),
    own_rule("temperature", kHonoured),
    own_rule("top_k", kHonoured),
    own_rule("top_p", kHonoured),
    own_rule("use_mlock", kHarmless, "", kLoading),
    own_rule("use_mmap", kHarmless, "", kLoading),
    own_rule("vocab_only", kHarmless, "", kLoading),
});
static_assert(std::ranges::is_sorted(kOllamaOptionRules, {}, &FieldRule::name));

ApiStatus read_options(const Fields& fields, int32_t n_vocab, CommonRequest& request) {
  // Ollama's own where the request says nothing.
  request.sampling = {.temperature = 0.8F, .top_k = 40, .top_p = 0.9F, .min_p = 0, .penalty_last_n = 64};
  const Json* json = fields.find("options");
  if (json == nullptr) return {};
  if (!json->is_object()) return bad_request("options", "options must be an object");
  ODMOE_RETURN_IF_ERROR(check_fields(*json, kOllamaOptionRules, "options."));
  const Fields options(*json, "options.");
  ODMOE_RETURN_IF_ERROR(read_sampling(options, n_vocab, request));
  int32_t most = -1;
  ODMOE_RETURN_IF_ERROR(options.read("num_predict", most, -2, std::numeric_limits<int32_t>::max()));
  request.max_tokens = most > 0 ? most : -1;  // -1, -2 and 0: as many as fit
  return {};
}

ApiStatus read_ollama_common(const Fields& fields, int32_t n_vocab, CommonRequest& request,
                             RequestWork& work) {
  std::string model;  // any name will do: there is one model here, and its own name is in the answer
  for (const char* name : {"model", "name"}) ODMOE_RETURN_IF_ERROR(fields.read(name, model));
  ODMOE_RETURN_IF_ERROR(read_options(fields, n_vocab, request));
  ODMOE_RETURN_IF_ERROR(read_chat_logprobs(fields, request.top_logprobs));
  request.stream = true;
  ODMOE_RETURN_IF_ERROR(fields.read("stream", request.stream));
  const Json* format = fields.find("format");
  if (format == nullptr || *format == "") return {};
  ODMOE_ASSIGN_OR_RETURN(request.form, form_of_ollama(*format, work));
  return {};
}

// A switch, or how much: templates know on and off.
ApiStatus read_think(const Fields& fields, std::optional<bool>& thinking) {
  const Json* think = fields.find("think");
  if (think == nullptr) return {};
  constexpr std::array<std::string_view, 4> kLevels = {"low", "medium", "high", "max"};
  if (think->is_boolean()) {
    thinking = think->get<bool>();
  } else if (think->is_string() && std::ranges::contains(kLevels, think->get_ref<const std::string&>())) {
    thinking = true;
  } else {
    return bad_request("think", "think must be true, false, low, medium, high or max");
  }
  return {};
}

// Of a request that has no text: whether the model is to go.
ApiStatus check_stays(const Fields& fields) {
  const Json* json = fields.find("keep_alive");
  if (json == nullptr) return {};
  const bool number = json->is_number() && *json == 0;
  const bool text = json->is_string() && json->get_ref<const std::string&>().contains('0') &&
                    json->get_ref<const std::string&>().find_first_of("123456789") == std::string::npos;
  if (!number && !text) return {};
  return bad_request("keep_alive", "keep_alive: the model stays as long as the server runs");
}

ApiResult<OllamaRequest> read_ollama_chat(const Json& json, int32_t n_vocab, RequestWork& work) {
  ODMOE_RETURN_IF_ERROR(check_fields(json, kOllamaChatRules, "", "give it in options, if it is one of them"));
  const Fields fields(json);
  ChatRequest chat;
  ODMOE_RETURN_IF_ERROR(read_ollama_common(fields, n_vocab, chat, work));
  ODMOE_RETURN_IF_ERROR(read_think(fields, chat.conversation.thinking));
  ODMOE_RETURN_IF_ERROR(read_tools(fields, chat));
  const Json* messages = fields.find("messages");
  if (messages == nullptr || *messages == Json::array()) {
    ODMOE_RETURN_IF_ERROR(check_stays(fields));
    return OllamaRequest{.generation = {}, .only_loads = true};
  }
  ODMOE_RETURN_IF_ERROR(read_messages(fields, chat, work));
  const std::vector<ChatTurn>& turns = chat.conversation.turns;
  if (!turns.empty() && turns.back().role == "assistant" && turns.back().tool_calls.empty()) {
    const std::string last = odmoe::format("messages[{}]", turns.size() - 1);
    ODMOE_RETURN_IF_ERROR(continue_last_turn(chat, last, last));
  }
  return OllamaRequest{.generation = std::move(chat)};
}

// Text as it is, in no template.
ApiResult<OllamaRequest> read_raw(const Fields& fields, std::string prompt, int32_t n_vocab,
                                  RequestWork& work) {
  for (const char* name : {"system", "images"}) {
    const Json* json = fields.find(name);
    if (json == nullptr || *json == "" || *json == Json::array()) continue;
    return bad_request(name, "{} does not go with raw: it is the template that places it", name);
  }
  std::optional<bool> thinking;
  ODMOE_RETURN_IF_ERROR(read_think(fields, thinking));
  if (thinking == true) {
    return bad_request("think", "think does not go with raw: it is the template that has the switch");
  }
  CompletionRequest completion;
  ODMOE_RETURN_IF_ERROR(read_ollama_common(fields, n_vocab, completion, work));
  completion.prompts.emplace_back(std::move(prompt));
  return OllamaRequest{.generation = std::move(completion)};
}

ApiResult<OllamaRequest> read_ollama_generate(const Json& json, int32_t n_vocab, RequestWork& work) {
  ODMOE_RETURN_IF_ERROR(
      check_fields(json, kOllamaGenerateRules, "", "give it in options, if it is one of them"));
  const Fields fields(json);
  std::string prompt, system;
  bool raw = false;
  ODMOE_RETURN_IF_ERROR(fields.read("prompt", prompt));
  ODMOE_RETURN_IF_ERROR(fields.read("system", system));
  ODMOE_RETURN_IF_ERROR(fields.read("raw", raw));
  if (raw && !prompt.empty()) return read_raw(fields, std::move(prompt), n_vocab, work);
  ChatRequest chat;
  ODMOE_RETURN_IF_ERROR(read_ollama_common(fields, n_vocab, chat, work));
  ODMOE_RETURN_IF_ERROR(read_think(fields, chat.conversation.thinking));
  std::vector<ChatTurn>& turns = chat.conversation.turns;
  if (!system.empty()) turns.push_back({.role = "system", .content = std::move(system)});
  ChatTurn user{.role = "user", .content = {}};
  ODMOE_RETURN_IF_ERROR(read_images(fields, "images", turns.size(), user, chat.images));
  if (prompt.empty() && chat.images.empty()) {
    ODMOE_RETURN_IF_ERROR(check_stays(fields));
    return OllamaRequest{.generation = {}, .only_loads = true};
  }
  user.content = std::move(prompt);
  turns.push_back(std::move(user));
  return OllamaRequest{.generation = std::move(chat)};
}

}  // namespace

std::span<const FieldRule> ollama_chat_rules() { return kOllamaChatRules; }
std::span<const FieldRule> ollama_generate_rules() { return kOllamaGenerateRules; }
std::span<const FieldRule> ollama_option_rules() { return kOllamaOptionRules; }

ApiResult<OllamaRequest> parse_ollama_chat(std::string_view body, int32_t n_vocab, RequestWork* work) {
  return read_body<OllamaRequest>(body, work, [&](const Json& json, RequestWork& bounds) {
    return read_ollama_chat(json, n_vocab, bounds);
  });
}

ApiResult<OllamaRequest> parse_ollama_generate(std::string_view body, int32_t n_vocab, RequestWork* work) {
  return read_body<OllamaRequest>(body, work, [&](const Json& json, RequestWork& bounds) {
    return read_ollama_generate(json, n_vocab, bounds);
  });
}

}  // namespace odmoe::server
