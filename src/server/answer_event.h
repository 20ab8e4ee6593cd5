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
};

// All that one choice said.
struct AnswerChoice {
  std::string reasoning, content;  // beginning with the text that is continued, if that was asked for (echo)
  std::vector<ChatToolCall> calls;
  std::vector<GeneratedToken> tokens;
  bool begins_with_prompt = false;  // the first of the tokens is the prompt's first
  AnswerFinish finish = AnswerFinish::kStop;
};

// In tokens.  A prompt with several choices counts once.
struct AnswerUsage {
  int32_t prompt = 0, generated = 0;
  int32_t reused = 0;  // of the prompt, from a KV cache that was there
};

}  // namespace odmoe::server
