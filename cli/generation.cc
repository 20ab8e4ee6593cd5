#include "cli/generation.h"

#include <algorithm>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "odmoe/format.h"

namespace odmoe::cli {

Result<GenerateResult> generate_with(const std::function<Status(std::string_view)>& show, Engine& engine,
                                     Session& session, std::span<const Token> prompt,
                                     const GenerateOptions& options) {
  Progress bar("Reading the prompt");
  GenerateOptions watched = options;
  watched.prompt_progress = [&](int32_t done, int32_t total) {
    bar.update(static_cast<double>(done) / total, odmoe::format("{} of {} tokens", done, total));
  };
  Status written;
  auto result = engine.generate(session, prompt, watched, [&](std::string_view text) {
    bar.finish();
    written = show(text);
    return written.has_value();
  });
  bar.finish();
  if (!result.has_value()) return result;
  if (!written.has_value()) return std::unexpected(written.error());
  return result;
}

void explain_end(const GenerateResult& result, const Session& session) {
  if (result.finish != FinishReason::kContextFull) return;
  (void)Output::standard_error().write(odmoe::format(
      "odmoe: the text ended because the context of {} tokens is full; use a larger --context, or "
      "--context-overflow shift\n",
      session.context()));
}

Result<GenerateResult> generate_to(Output& output, Engine& engine, Session& session,
                                   std::span<const Token> prompt, const GenerateOptions& options) {
  auto result = generate_with([&](std::string_view text) { return output.write(text); }, engine, session,
                              prompt, options);
  if (output.reader_gone()) return GenerateResult{.finish = FinishReason::kInterrupted};
  // The line ends whatever ended the text, so that what comes next on the screen stands on its own.
  const bool ended = result.has_value() && result->text.ends_with('\n');
  const Status written = ended ? Status() : output.write("\n");
  if (result.has_value() && !written.has_value() && !output.reader_gone())
    return std::unexpected(written.error());
  if (result.has_value()) explain_end(*result, session);
  return result;
}

}  // namespace odmoe::cli
