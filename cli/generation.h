// Lets an engine write to standard output.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "cli/output.h"
#include "odmoe/engine.h"

namespace odmoe::cli {

// Generates after `prompt`; the text goes to `show` as it is made, whose error ends it.  A bar is shown while
// a long prompt is evaluated.  An interrupt is a result with FinishReason::kInterrupted.
Result<GenerateResult> generate_with(const std::function<Status(std::string_view)>& show, Engine& engine,
                                     Session& session, std::span<const Token> prompt,
                                     const GenerateOptions& options);

// Says on standard error when it was the context that ended the text.
void explain_end(const GenerateResult& result, const Session& session);

// The same with explain_end(); the text goes to `output` as it is made, and ends in a newline.  A reader that
// went away is a result with FinishReason::kInterrupted, too; other failures to write are errors.
Result<GenerateResult> generate_to(Output& output, Engine& engine, Session& session,
                                   std::span<const Token> prompt, const GenerateOptions& options);

}  // namespace odmoe::cli
