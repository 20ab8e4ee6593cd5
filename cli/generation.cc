#include "cli/generation.h"

#include <algorithm>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "odmoe/format.h"

namespace odmoe::cli {

Result<GenerateResult> generate_to(Output& output, Engine& engine, Session& session,
                                   std::span<const Token> prompt, const GenerateOptions& options) {
  Progress bar("Reading the prompt");
  GenerateOptions watched = options;
  watched.prompt_progress = [&](int32_t done, int32_t total) {
    bar.update(static_cast<double>(done) / total, odmoe::format("{} of {} tokens", done, total));
  };
  Status written;
  auto result = engine.generate(session, prompt, watched, [&](std::string_view text) {
    bar.finish();
    written = output.write(text);
    return written.has_value();
  });
  bar.finish();
  // The line ends whatever ended the text, so that what comes next on the screen stands on its own.
  if (written.has_value() && (!result.has_value() || !result->text.ends_with('\n')))
    written = output.write("\n");
  if (!result.has_value()) return result;
  if (!written.has_value()) {
    if (!output.reader_gone()) return std::unexpected(written.error());
    result->finish = FinishReason::kInterrupted;
  }
  if (result->finish == FinishReason::kContextFull) {
    (void)Output::standard_error().write(odmoe::format(
        "odmoe: the text ended because the context of {} tokens is full; use a larger --context, or "
        "--context-overflow shift\n",
        session.context()));
  }
  return result;
}

}  // namespace odmoe::cli
