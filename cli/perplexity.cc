// odmoe perplexity: how well a model foretells a text, counted as llama-perplexity does.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "base/units.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/model_name.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/report.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct PerplexityOptions {
  InferenceOptions inference;
  std::string text_file;
  std::string logits_file;  // empty: none
};

// Refuses logits that the drive has no room for before hours go into them.
Status check_room(const std::string& path, uint64_t needed_bytes) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return {};  // a pipe or device takes what it takes
  const auto space = std::filesystem::space(path, error);
  if (error || space.available >= needed_bytes) return {};
  return fail(ErrorKind::kIo, "cannot write '{}': the logits take {}, the drive has {} left", path,
              format_bytes(needed_bytes), format_bytes(space.available));
}

Result<PerplexityResult> measure(const PerplexityOptions& options, Engine& engine, const std::string& text,
                                 std::optional<Output>& logits) {
  if (logits) {
    const uint64_t n_token = engine.encode(text).size();
    ODMOE_RETURN_IF_ERROR(check_room(
        options.logits_file, n_token * static_cast<uint64_t>(engine.model().n_vocab) * sizeof(float)));
  }
  Status written;
  LogitsSink sink;
  if (logits) {
    sink = [&](int32_t /*position*/, std::span<const float> values) {
      if (!written.has_value()) return;
      written = logits->write({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
      if (!written.has_value()) engine.interrupt();  // no token more for a file that cannot take it
    };
  }
  Progress bar("Perplexity");
  bar.update(0);
  auto result = perplexity(engine, text, sink, [&](const PerplexityProgress& so_far) {
    bar.update(
        static_cast<double>(so_far.chunk) / so_far.chunks,
        odmoe::format("{} of {} chunks, {:.4f} so far", so_far.chunk, so_far.chunks, so_far.perplexity));
    return !interrupt::pending();
  });
  bar.finish();
  if (logits && written.has_value()) written = logits->close();
  if (!written.has_value()) return std::unexpected(written.error());
  return result;
}

Result<int> run(const PerplexityOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.inference.engine.validate());
  ODMOE_ASSIGN_OR_RETURN(const std::string text,
                         options.text_file == "-" ? read_standard_input() : read_file(options.text_file));
  std::optional<Output> logits;
  if (!options.logits_file.empty()) {
    ODMOE_ASSIGN_OR_RETURN(Output file, Output::create(options.logits_file));
    logits.emplace(std::move(file));
  }
  ODMOE_ASSIGN_OR_RETURN(auto engine, ReportedEngine::open(options.inference));
  const interrupt::Watch watch(*engine);
  const auto result = measure(options, *engine, text, logits);
  if (!result.has_value()) return engine.finish(std::unexpected(result.error()));

  Output output = Output::standard_output();
  (void)output.write(odmoe::format("perplexity {:.4f} +/- {:.4f} ({} chunks, {} tokens scored)\n",
                                   result->perplexity, result->standard_error, result->chunks,
                                   result->scored_tokens));
  return engine.finish(output.exit_code());
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  const auto options = std::make_shared<PerplexityOptions>();
  CLI::App* command = app.add_subcommand("perplexity", "Measure how well a model foretells a text");
  command->add_option("-f,--file", options->text_file, "The text; -: standard input")
      ->type_name("FILE")
      ->required()
      ->group("Text");
  command
      ->add_option("--logits", options->logits_file,
                   "Write the logits of every position: float32 [n_vocab, n_position], machine order")
      ->type_name("FILE")
      ->group("Report");
  add_inference_options(*command, options->inference);
  command->footer(
      "The text is cut into chunks of --context tokens, each evaluated afresh; the second half of each is "
      "scored,\n"
      "as llama-perplexity does it.\n"
      "\n"
      "Examples:\n"
      "  odmoe perplexity model.gguf -f wiki.test.raw --context 512\n"
      "  odmoe perplexity model.gguf -f text.txt --context 256 --memory 10% --logits logits.f32");
  command->callback([&action, options] {
    action = ranks::on_each(options->inference,
                            with_model(options->inference.engine.model, [options] { return run(*options); }));
  });
}

}  // namespace odmoe::cli
