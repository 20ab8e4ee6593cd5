#include "server/rendering_needs.h"

#include "jinja/chat_prompt.h"

namespace odmoe::server {

RenderingNeeds rendering_needs(const Conversation& conversation) {
  // The shortest values of JSON take most: "[]," 96 bytes as JSON and 160 as a value of the template.  What
  // grows is there twice while it does.
  constexpr uint64_t kJsonBytesPerByte = 32, kValueBytesPerByte = 64, kTextsOfValues = 4;
  constexpr uint64_t kMessageBytes = 4096, kTemplateBytes = 96 << 10;  // its constants, macros and loops
  uint64_t text = 0, json = conversation.kwargs.size();
  for (const std::string& tool : conversation.tools) json += tool.size();
  for (const ChatTurn& turn : conversation.turns) {
    const uint64_t reasoning = turn.reasoning ? turn.reasoning->size() : 0;
    text += turn.content.size() + jinja::kThoughtKeys.size() * reasoning + turn.name.size();
    for (const ChatToolCall& call : turn.tool_calls)
      json += call.arguments.size() + call.name.size() + call.id.size();
  }
  const uint64_t messages = conversation.turns.size() * kMessageBytes;
  return {.text = text + json,
          .values = kTemplateBytes + messages + kTextsOfValues * text + kValueBytesPerByte * json,
          .messages = messages + 2 * text + kJsonBytesPerByte * json};
}

}  // namespace odmoe::server
