// Where an answer begins: anew, within a thought, or where the last message ended.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "grammar/grammar.h"
#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/assistant_text.h"
#include "server/generation_request.h"

namespace odmoe::server {

// Where the answer to this prompt begins.
AssistantText::Start start_of(const Engine& engine, const Conversation& conversation,
                              std::span<const Token> prompt);

// The answer, or the thought, that is to be continued; empty: a new one.  400 when it is
// not how a text of the grammar may begin: the two together are to be one.
ApiResult<std::string> begun_text(const ChatRequest& request,
                                  const std::shared_ptr<const grammar::Grammar>& grammar);

}  // namespace odmoe::server
