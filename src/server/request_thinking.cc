// Whether the model is to think before it answers, how hard, and how long at most; and what else templates
// are told.
#include <limits>

#include "server/request_parts.h"

namespace odmoe::server {
namespace {

ApiStatus read_switch(const Fields& fields, const char* name, Conversation& conversation) {
  if (!fields.has(name)) return {};
  bool thinking = true;
  ODMOE_RETURN_IF_ERROR(fields.read(name, thinking));
  conversation.thinking = thinking;
  return {};
}

// How many tokens a thought may have; -1: any number.
ApiStatus read_budget(const Fields& fields, const char* name, ChatRequest& request) {
  return fields.read(name, request.thought_tokens, -1, std::numeric_limits<int32_t>::max());
}

// "none" is off; anything else is for templates that have words for it.
ApiStatus read_effort(const Fields& fields, const char* name, Conversation& conversation) {
  std::string effort;
  ODMOE_RETURN_IF_ERROR(fields.read(name, effort));
  if (effort == "none") conversation.thinking = false;
  if (effort != "none" && !effort.empty()) conversation.reasoning_effort = effort;
  return {};
}

// DeepSeek's and Anthropic's {"type": "enabled"}, or a switch.
ApiStatus read_thinking_object(const Fields& fields, ChatRequest& request) {
  Conversation& conversation = request.conversation;
  const Json* json = fields.find("thinking");
  if (json == nullptr || !json->is_object()) return read_switch(fields, "thinking", conversation);
  const Fields inner(*json, "thinking.");
  std::string type;
  ODMOE_RETURN_IF_ERROR(inner.read("type", type));
  if (type == "enabled" || type == "disabled") {
    conversation.thinking = type == "enabled";
  } else if (type != "adaptive" && type != "auto") {
    return bad_request("thinking.type", "thinking.type must be enabled or disabled");
  }
  return read_budget(inner, "budget_tokens", request);
}

// OpenRouter's.
ApiStatus read_reasoning(const Fields& fields, ChatRequest& request) {
  Conversation& conversation = request.conversation;
  const Json* json = fields.find("reasoning");
  if (json == nullptr) return {};
  if (!json->is_object()) return bad_request("reasoning", "reasoning must be an object");
  const Fields inner(*json, "reasoning.");
  ODMOE_RETURN_IF_ERROR(read_switch(inner, "enabled", conversation));
  ODMOE_RETURN_IF_ERROR(read_effort(inner, "effort", conversation));
  ODMOE_RETURN_IF_ERROR(read_budget(inner, "max_tokens", request));
  bool exclude = false;
  ODMOE_RETURN_IF_ERROR(inner.read("exclude", exclude));
  if (exclude) {
    return bad_request("reasoning.exclude",
                       "reasoning.exclude is not supported: thoughts come as reasoning_content");
  }
  return {};
}

}  // namespace

ApiStatus read_thinking(const Fields& fields, ChatRequest& request) {
  Conversation& conversation = request.conversation;
  ODMOE_RETURN_IF_ERROR(read_effort(fields, "reasoning_effort", conversation));
  ODMOE_RETURN_IF_ERROR(read_reasoning(fields, request));
  for (const char* name :
       {"reasoning_budget", "thinking_budget", "thinking_token_budget", "max_reasoning_tokens"}) {
    ODMOE_RETURN_IF_ERROR(read_budget(fields, name, request));
  }
  // Ollama's: a switch, or how much.
  if (const Json* think = fields.find("think"); think != nullptr && think->is_string()) {
    ODMOE_RETURN_IF_ERROR(read_effort(fields, "think", conversation));
  } else {
    ODMOE_RETURN_IF_ERROR(read_switch(fields, "think", conversation));
  }
  ODMOE_RETURN_IF_ERROR(read_thinking_object(fields, request));
  ODMOE_RETURN_IF_ERROR(read_switch(fields, "enable_thinking", conversation));
  if (const Json* options = fields.find("chat_template_kwargs")) {
    if (!options->is_object()) {
      return bad_request("chat_template_kwargs", "chat_template_kwargs must be an object");
    }
    const Fields inner(*options, "chat_template_kwargs.");
    ODMOE_RETURN_IF_ERROR(read_switch(inner, "enable_thinking", conversation));
    ODMOE_RETURN_IF_ERROR(read_switch(inner, "thinking", conversation));
    ODMOE_RETURN_IF_ERROR(read_budget(inner, "thinking_budget", request));
    conversation.kwargs = dump_json(*options);
  }
  // No tokens for it: off, where the template has a switch.
  if (request.thought_tokens == 0) conversation.thinking = false;
  return {};
}

}  // namespace odmoe::server
