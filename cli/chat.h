// odmoe run --chat: a conversation, line by line.
#pragma once

#include "cli/run_options.h"
#include "odmoe/engine.h"
#include "odmoe/result.h"

namespace odmoe::cli {

// Each line of standard input is a message, answered on standard output; the KV cache of what was said is
// kept.  On a terminal it asks for the next message with "> ", where lines can be edited and those with a
// slash are commands (chat_command.h).  Thoughts are dim there, and between <think> and </think> elsewhere.
// Ctrl-C stops an answer, which then stands as far as it went; where there is none to stop it ends the
// conversation, as the end of the input does.
Result<int> converse(const RunOptions& options, const ChatTemplateChoice& chat_template, Engine& engine);

}  // namespace odmoe::cli
