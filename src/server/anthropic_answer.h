// Answers in Anthropic's shapes: a message of content blocks, whole or as the events of a stream.
#pragma once

#include <memory>
#include <string>

#include "server/dialect.h"

namespace odmoe::server {

struct AnthropicAnswerOptions {
  bool shows_thoughts = true;  // else a thought is only said to have been there
};

// A stream is, in this order: message_start; for each block, one after another, content_block_start (behind
// the first a ping), content_block_delta and content_block_stop; message_delta; message_stop.  Where it fails
// an event `error` is its last.
std::unique_ptr<AnswerWriter> anthropic_writer(const AnswerStart& start,
                                               const AnthropicAnswerOptions& options);

// {"type": "error", "error": {"type", "message"}, "request_id"}
std::string anthropic_error(const ApiError& error);

}  // namespace odmoe::server
