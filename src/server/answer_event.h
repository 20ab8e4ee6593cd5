// What the answer to a request says, before it is put into the words of a dialect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "odmoe/chat.h"
#include "server/scheduler.h"

namespace odmoe::server {

// Why a choice ended.
enum class AnswerFinish : uint8_t { kStop, kLength, kCalls };

// What one choice says next.
struct AnswerEvent {
  size_t choice = 0;
  std::string reasoning, content;      // complete UTF-8, in this order
  std::vector<ChatToolCall> calls;     // complete ones
  std::vector<GeneratedToken> tokens;  // with logprobs, if those were asked for
  bool prompt = false;                 // they are the prompt's (echo)
  std::optional<AnswerFinish> finish;  // the last event of its choice
  std::string stop_string;             // with finish: which ended it; empty: none did
  bool context_full = false;           // with kLength: it was the context's, not max_tokens
};

// What a choice said without a break: of one kind.
struct AnswerPart {
  enum class Kind : uint8_t { kReasoning, kContent, kCalls };
  Kind kind = Kind::kContent;
  // Where it ends, in all that there is of its kind: bytes, calls; and of the tokens, if those are told.
  size_t end = 0, tokens_end = 0;
};

// All that one choice said.
struct AnswerChoice {
  std::string reasoning, content;  // beginning with the text that is continued, if that was asked for (echo)
  std::vector<ChatToolCall> calls;
  std::vector<GeneratedToken> tokens;
  std::vector<AnswerPart> order;    // of what was generated
  bool begins_with_prompt = false;  // the first of the tokens is the prompt's first
  AnswerFinish finish = AnswerFinish::kStop;
  std::string stop_string;  // as AnswerEvent's
  bool context_full = false;
};

// In tokens.  A prompt with several choices counts once.
struct AnswerUsage {
  int32_t prompt = 0, generated = 0;
  int32_t reused = 0;   // of the prompt, from a KV cache that was there
  int32_t thought = 0;  // of what was generated, in thoughts
  // As of GenerationEnd, the longest of its choices.
  double queue_ms = 0, ttft_ms = 0, decode_ms = 0;
};

// Adds what a choice says next to all that it said.
void append(AnswerChoice& choice, AnswerEvent event);

}  // namespace odmoe::server
