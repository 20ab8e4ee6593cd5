// Grammars of requests: what the form of the answer and tool_choice allow a model to write.
#pragma once

#include <memory>

#include "grammar/grammar.h"
#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/request.h"

namespace odmoe::server {

// The grammar that the request asks for; null: none.  400, naming the keyword, for a schema that is not
// supported.  `syntax` is how the model writes calls.
ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const Engine& engine,
                                                              const ChatRequest& request,
                                                              ToolCallSyntax syntax);
// Of the form of the answer alone.
ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const CommonRequest& request);

}  // namespace odmoe::server
