#include "server/anthropic_request.h"

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

constexpr auto kAnthropicRules = std::to_array<FieldRule>({
    own_rule("anthropic_beta", kHarmless, "", "it names what a request may use"),
    own_rule("anthropic_version", kHarmless, "", "there is one"),
    own_rule("best_of", kRefused, "[1]", "a message is one answer"),
    own_rule("betas", kHarmless, "", "it names what a request may use"),
    own_rule("billing_policy", kHarmless, "", "it says whose the request is"),
    own_rule("cache_control", kHarmless, "", "prompts that were there are found by their text"),
    own_rule("compaction", kRefused, "", "shorten the conversation"),
    own_rule("container", kRefused, "", "tools are run by the client"),
    own_rule("context_management", kHonoured),
    own_rule("diagnostics", kHarmless, "", "it only adds information to the answer"),
    own_rule("echo", kRefused, "[false]", "the answer begins where the last message ends"),
    own_rule("fallback_credit_token", kHarmless, "", "there is one model"),
    own_rule("fallbacks", kHarmless, "", "there is one model"),
    own_rule("frequency_penalty", kHonoured),
    own_rule("ignore_eos", kHonoured),
    own_rule("inference_geo", kHarmless, "", "it is computed here"),
    own_rule("logit_bias", kHonoured),
    own_rule("max_tokens", kHonoured),
    own_rule("max_tokens_to_sample", kRefused, "", "use max_tokens"),
    own_rule("mcp_servers", kRefused, "", "give what they offer as tools"),
    own_rule("messages", kHonoured),
    own_rule("metadata", kHarmless, "", "it says whose the request is"),
    own_rule("min_p", kHonoured),
    own_rule("model", kHonoured),
    own_rule("n", kRefused, "[1]", "a message is one answer"),
    own_rule("output_config", kHonoured),
    own_rule("output_format", kHonoured),
    own_rule("presence_penalty", kHonoured),
    own_rule("prompt", kRefused, "", "use messages"),
    own_rule("random_seed", kHonoured),
    own_rule("repeat_last_n", kHonoured),
    own_rule("repeat_penalty", kHonoured),
    own_rule("repetition_penalty", kHonoured),
    own_rule("seed", kHonoured),
    own_rule("service_tier", kHarmless, "", "requests are served in order"),
    own_rule("speed", kHarmless, "", "there is one"),
    own_rule("stop", kHonoured),
    own_rule("stop_sequences", kHonoured),
    own_rule("stop_token_ids", kHonoured),
    own_rule("stream", kHonoured),
    own_rule("system", kHonoured),
    own_rule("temperature", kHonoured),
    own_rule("thinking", kHonoured),
    own_rule("thread", kRefused, "", "send the whole conversation"),
    own_rule("tool_choice", kHonoured),
    own_rule("tools", kHonoured),
    own_rule("top_k", kHonoured),
    own_rule("top_p", kHonoured),
    own_rule("user_profile_id", kHarmless, "", "it says whose the request is"),
    own_rule("workspace_id", kHarmless, "", "it says whose the request is"),
});
static_assert(std::ranges::is_sorted(kAnthropicRules, {}, &FieldRule::name));

// Null where there is none; an error where it is no object.
ApiResult<const Json*> object_of(const Fields& fields, const char* name) {
  const Json* json = fields.find(name);
  if (json != nullptr && !json->is_object()) {
    return bad_request(fields.path(name), "{} must be an object", fields.path(name));
  }
  return json;
}

ApiStatus read_anthropic_thinking(const Fields& fields, AnthropicRequest& request) {
  ODMOE_ASSIGN_OR_RETURN(const Json* json, object_of(fields, "thinking"));
  if (json == nullptr) return {};
  const Fields thinking(*json, "thinking.");
  std::string type, display = "summarized";
  ODMOE_RETURN_IF_ERROR(thinking.read("type", type));
  ODMOE_RETURN_IF_ERROR(thinking.read("display", display));
  if (display != "summarized" && display != "omitted") {
    return bad_request("thinking.display", "thinking.display must be summarized or omitted");
  }
  request.shows_thoughts = display == "summarized";
  if (type == "enabled" || type == "disabled") {
    request.chat.conversation.thinking = type == "enabled";
  } else if (type != "adaptive") {
    return bad_request("thinking.type", "thinking.type must be enabled, disabled or adaptive");
  }
  if (type != "enabled") return {};
  return thinking.read("budget_tokens", request.chat.thought_tokens, 1, std::numeric_limits<int32_t>::max());
}

ApiStatus read_output_format(const Json& json, const std::string& where, ChatRequest& request,
                             RequestWork& work) {
  if (!json.is_object()) return bad_request(where, "{} must be an object", where);
  const Fields format(json, where + ".");
  std::string type;
  ODMOE_RETURN_IF_ERROR(format.read("type", type));
  const Json* schema = format.find("schema");
  if (type != "json_schema" || schema == nullptr) {
    return bad_request(where, "{} must be of type json_schema, with its schema", where);
  }
  if (request.form.kind != AnswerForm::Kind::kText) {
    return bad_request(where, "{} and {} cannot both say the form of the answer", request.form.param, where);
  }
  ODMOE_ASSIGN_OR_RETURN(request.form, form_of_schema(*schema, format.path("schema"), work));
  return {};
}

ApiStatus read_output(const Fields& fields, ChatRequest& request, RequestWork& work) {
  if (const Json* format = fields.find("output_format")) {
    ODMOE_RETURN_IF_ERROR(read_output_format(*format, "output_format", request, work));
  }
  ODMOE_ASSIGN_OR_RETURN(const Json* json, object_of(fields, "output_config"));
  if (json == nullptr) return {};
  ODMOE_RETURN_IF_ERROR(check_members(*json, {"format", "effort"}, "output_config"));
  const Fields output(*json, "output_config.");
  // How much is thought is the template's to say, which knows on and off.
  std::string effort = "high";
  ODMOE_RETURN_IF_ERROR(output.read("effort", effort));
  constexpr std::array<std::string_view, 5> kEfforts = {"low", "medium", "high", "xhigh", "max"};
  if (!std::ranges::contains(kEfforts, effort)) {
    return bad_request("output_config.effort",
                       "output_config.effort must be low, medium, high, xhigh or max");
  }
  const Json* format = output.find("format");
  return format == nullptr ? ApiStatus() : read_output_format(*format, "output_config.format", request, work);
}

// Edits of the conversation: the one that clears nothing is taken.
ApiStatus check_context_management(const Fields& fields) {
  ODMOE_ASSIGN_OR_RETURN(const Json* json, object_of(fields, "context_management"));
  if (json == nullptr) return {};
  for (const auto& [name, value] : json->items()) {
    const bool keeps_all =
        name == "edits" && value.is_array() && std::ranges::all_of(value, [](const Json& edit) {
          return edit.is_object() && edit.value("keep", Json()) == "all" &&
                 edit.value("type", Json()) == "clear_thinking_20251015";
        });
    if (value.is_null() || keeps_all) continue;
    return bad_request("context_management",
                       "context_management is not supported: the conversation is read as it is sent");
  }
  return {};
}

ApiResult<AnthropicRequest> read_anthropic(const Json& json, int32_t n_vocab, RequestWork& work) {
  ODMOE_RETURN_IF_ERROR(check_fields(json, kAnthropicRules));
  const Fields fields(json);
  AnthropicRequest request;
  ChatRequest& chat = request.chat;
  ODMOE_RETURN_IF_ERROR(check_context_management(fields));
  ODMOE_RETURN_IF_ERROR(read_sampling(fields, n_vocab, chat));
  ODMOE_RETURN_IF_ERROR(read_stop(fields, "stop_sequences", chat.stop));
  ODMOE_RETURN_IF_ERROR(read_output(fields, chat, work));
  ODMOE_RETURN_IF_ERROR(read_anthropic_tools(fields, chat));
  ODMOE_RETURN_IF_ERROR(read_anthropic_thinking(fields, request));
  ODMOE_RETURN_IF_ERROR(read_anthropic_messages(fields, chat, work));
  const Conversation& conversation = chat.conversation;
  if (conversation.thinking == true && conversation.continuation == Continuation::kAnswer &&
      !conversation.turns.back().reasoning) {
    return bad_request("thinking",
                       "thinking: the last message is the assistant's and has no thought: it is continued "
                       "without one; disable thinking or leave that message out");
  }
  return request;
}

}  // namespace

std::span<const FieldRule> anthropic_field_rules() { return kAnthropicRules; }

ApiResult<AnthropicRequest> parse_anthropic_request(std::string_view body, int32_t n_vocab,
                                                    RequestWork* work) {
  return read_body<AnthropicRequest>(body, work, [&](const Json& json, RequestWork& bounds) {
    return read_anthropic(json, n_vocab, bounds);
  });
}

}  // namespace odmoe::server
