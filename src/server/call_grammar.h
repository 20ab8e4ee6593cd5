// Grammars of requests: what the form of the answer and tool_choice allow a model to write.
#pragma once

#include <memory>

#include "grammar/grammar.h"
#include "grammar/work.h"
#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/generation_request.h"

namespace odmoe::server {

// Whether the request asks for a grammar at all.
bool asks_for_grammar(const CommonRequest& request);
bool asks_for_grammar(const ChatRequest& request);

// The grammar that the request asks for; null: none.  400, naming the keyword, for a schema that cannot
// be held; with tool_choice auto one of a tool is passed over.  `syntax` is how the model writes calls. Takes
// grammar::kMaxCompileBytes at most while it runs, and some 100 ns a step of grammar::kMaxCompileSteps; ends
// with 400 soon after it was asked to stop.
ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const Engine& engine,
                                                              const ChatRequest& request,
                                                              ToolCallSyntax syntax, grammar::Stop stop = {});
// Of the form of the answer alone.
ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const CommonRequest& request,
                                                              grammar::Stop stop = {});

}  // namespace odmoe::server
