// A conversation as the text that a model family was trained on.
//
// GGUF files carry a Jinja template.  It is not interpreted: the family is recognised from it, and the
// details in which templates of one family differ (default system prompt, thinking, markers) are read off it.
// What comes out is byte for byte what the published templates give for system, user, assistant and tool
// messages, with arguments of calls given as objects (DeepSeek-V3 and R1: as text).  Where a template has no
// words for tools (V3, R1, V3.1, Qwen2, ...) they are declared at the end of the system message, in the form
// that the family was trained on; and where V3's and R1's forget to close a list of calls, it is closed.
// Kimi-K2.5 gets the tools as JSON, as its template writes them by itself, not in the TypeScript form that
// its Python tokenizer puts in their place.  Not rendered: images, reasoning_effort.
#pragma once

#include <string>
#include <string_view>

#include "model/tokenizer/chat_text.h"
#include "odmoe/chat.h"
#include "odmoe/result.h"

namespace odmoe {

// The families that are known, by the names that --chat-template takes: chatml, kimi-k2, deepseek-v2,
// deepseek-v3.
enum class ChatFamily { kChatMl, kKimiK2, kDeepSeekV2, kDeepSeekV3 };

// Recognises the family from the model's own Jinja text (tokenizer.chat_template).
// kUnsupported when it is none of the known ones, with their names; empty text is kUnsupported too.
Result<ChatFamily> detect_chat_family(std::string_view jinja);
Result<ChatFamily> parse_chat_family(std::string_view name);
std::string_view chat_family_name(ChatFamily family);

// Whether the template writes BOS, which render_chat() never does: encode the text with a BOS before it,
// once, where this says so or the tokenizer adds one anyway.
bool chat_template_has_bos(std::string_view jinja);

// How the family's models write calls.  `jinja` tells DeepSeek's versions apart and may be empty.
ToolCallSyntax tool_call_syntax(ChatFamily family, std::string_view jinja);

// Renders as the published template does.  `jinja` decides the details within the family and may be empty.
// With add_generation_prompt the text ends where the assistant begins to speak; with a continuation where the
// last turn ends, as Transformers' continue_final_message has it.  Its thought is shown whether or not the
// template shows those of earlier turns.
//
// To keep the KV cache across turns, render the whole conversation each time and evaluate what follows the
// longest common prefix of the tokens.  That prefix reaches to the end of the last turn for templates that
// repeat what was said; those that leave out earlier thinking (Qwen3, DeepSeek-R1, Kimi-K2-Thinking) shorten
// it by that turn.
ChatText render_chat(ChatFamily family, std::string_view jinja, const Conversation& conversation);

}  // namespace odmoe
