#include "cli/batch_report.h"

#include <algorithm>

#include "odmoe/format.h"

namespace odmoe::cli {

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  if (whole >= 3600) return odmoe::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return odmoe::format("{}:{:02}", whole / 60, whole % 60);
}

std::string BatchPace::text(const server::BatchCounts& counts) const {
  std::string text = odmoe::format("{} of {} requests", counts.done, counts.total);
  const double passed = seconds();
  if (passed < 1 || counts.generated_tokens == 0) return text;
  text += odmoe::format(", {:.1f} tokens/s", static_cast<double>(counts.generated_tokens) / passed);
  if (const size_t here = counts.done - counts.before; here > 0) {
    const auto left = static_cast<double>(counts.total - counts.done);
    text += odmoe::format(", {} left", duration_text(passed / static_cast<double>(here) * left));
  }
  return text;
}

std::string BatchPace::summary(const server::BatchCounts& counts) const {
  std::string text = odmoe::format("{} requests", counts.total);
  if (counts.before > 0) text += odmoe::format(", {} of them before", counts.before);
  if (counts.failed > 0) text += odmoe::format(", {} with an error", counts.failed);
  const double passed = std::max(seconds(), 1e-3);
  return text + odmoe::format("; {} prompt tokens, {} tokens at {:.1f}/s in {}", counts.prompt_tokens,
                              counts.generated_tokens, static_cast<double>(counts.generated_tokens) / passed,
                              duration_text(passed));
}

}  // namespace odmoe::cli
