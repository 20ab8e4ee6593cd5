// Whether the model is to think before it answers.  Templates know on and off; how much is the model's own.
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

// "none" is off; anything else leaves it to the template.
ApiStatus read_effort(const Fields& fields, const char* name, Conversation& conversation) {
  std::string effort;
  ODMOE_RETURN_IF_ERROR(fields.read(name, effort));
  if (effort == "none") conversation.thinking = false;
  return {};
}

// DeepSeek's and Anthropic's {"type": "enabled"}, or a switch.
ApiStatus read_thinking_object(const Fields& fields, Conversation& conversation) {
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
  return {};
}

// OpenRouter's.
ApiStatus read_reasoning(const Fields& fields, Conversation& conversation) {
  const Json* json = fields.find("reasoning");
  if (json == nullptr) return {};
  if (!json->is_object()) return bad_request("reasoning", "reasoning must be an object");
  const Fields inner(*json, "reasoning.");
  ODMOE_RETURN_IF_ERROR(read_switch(inner, "enabled", conversation));
  ODMOE_RETURN_IF_ERROR(read_effort(inner, "effort", conversation));
  if (inner.has("max_tokens")) {
    return bad_request("reasoning.max_tokens", "reasoning.max_tokens is not supported: use max_tokens");
  }
  bool exclude = false;
  ODMOE_RETURN_IF_ERROR(inner.read("exclude", exclude));
  if (exclude) {
    return bad_request("reasoning.exclude",
                       "reasoning.exclude is not supported: thoughts come as reasoning_content");
  }
  return {};
}

}  // namespace

ApiStatus read_thinking(const Fields& fields, Conversation& conversation) {
  ODMOE_RETURN_IF_ERROR(read_effort(fields, "reasoning_effort", conversation));
  ODMOE_RETURN_IF_ERROR(read_reasoning(fields, conversation));
  // llama.cpp's: 0 is off, -1 as the template does.
  int32_t budget = -1;
  ODMOE_RETURN_IF_ERROR(fields.read("reasoning_budget", budget, -1, 0));
  if (budget == 0) conversation.thinking = false;
  // Ollama's: a switch, or how much.
  if (const Json* think = fields.find("think"); think != nullptr && think->is_string()) {
    ODMOE_RETURN_IF_ERROR(read_effort(fields, "think", conversation));
  } else {
    ODMOE_RETURN_IF_ERROR(read_switch(fields, "think", conversation));
  }
  ODMOE_RETURN_IF_ERROR(read_thinking_object(fields, conversation));
  ODMOE_RETURN_IF_ERROR(read_switch(fields, "enable_thinking", conversation));
  const Json* options = fields.find("chat_template_kwargs");
  if (options == nullptr) return {};
  if (!options->is_object()) {
    return bad_request("chat_template_kwargs", "chat_template_kwargs must be an object");
  }
  const Fields inner(*options, "chat_template_kwargs.");
  ODMOE_RETURN_IF_ERROR(read_switch(inner, "enable_thinking", conversation));
  return read_switch(inner, "thinking", conversation);
}

}  // namespace odmoe::server
