// Where an answer begins: anew, within a thought, or where the last message ended.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/generation_request.h"
#include "server/output/output_reader.h"

namespace odmoe::server {

struct AnswerPlace {
  OutputStart start = OutputStart::kAnswer;
  bool thought_ended = false;  // of kAnswer: the prompt ends behind a thought, if only an empty one
};
// Where the answer to this prompt begins.
AnswerPlace place_of_answer(const Engine& engine, const OutputFormat& format,
                            const Conversation& conversation, std::span<const Token> prompt);

// The answer, or the thought, that is to be continued; empty: a new one.  400 when it is
// not how a text of the grammar may begin: the two together are to be one.
ApiResult<std::string> begun_text(const ChatRequest& request,
                                  const std::shared_ptr<const grammar::Grammar>& grammar);

}  // namespace odmoe::server
