// Grammars of requests: what the form of the answer and tool_choice allow a model to write, in its own
// format.
#pragma once

#include <memory>

#include "grammar/grammar.h"
#include "grammar/work.h"
#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/generation_request.h"
#include "server/output/output_format.h"
#include "server/output/output_reader.h"

namespace odmoe::server {

// Whether the request asks for a grammar at all.
bool asks_for_grammar(const CommonRequest& request);
bool asks_for_grammar(const ChatRequest& request);
// Whether the answer as a whole is held: else only calls are, where the model chooses to make some.
bool holds_answer(const ChatRequest& request);

// Where an answer begins that a grammar holds.
struct GrammarPlace {
  const OutputFormat* format;
  OutputStart start = OutputStart::kAnswer;
  bool may_think = false;  // of kAnswer: the answer may begin with a thought
};

// The grammar that the request asks for; null: none.  A thought comes before what is held, free but for the
// mark that ends it.  400, naming the keyword, for a schema that cannot be held; with tool_choice auto one of
// a tool is passed over unless that is strict.  Takes grammar::kMaxCompileBytes at most while it runs, and
// some 100 ns a step of grammar::kMaxCompileSteps; ends with 400 soon after it was asked to stop.
ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const Engine& engine,
                                                              const ChatRequest& request,
                                                              const GrammarPlace& place,
                                                              grammar::Stop stop = {});
// Of the form of the answer alone.
ApiResult<std::shared_ptr<const grammar::Grammar>> grammar_of(const CommonRequest& request,
                                                              grammar::Stop stop = {});

}  // namespace odmoe::server
