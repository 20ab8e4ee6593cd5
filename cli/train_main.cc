// odmoe-train: the part of `odmoe train` that needs LibTorch, in a program of its own so that loading
// LibTorch costs nobody else anything.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <exception>
#include <iostream>
#include <string>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/standard_descriptors.h"
#include "cli/train_flags.h"
#include "odmoe/format.h"
#include "train/train.h"

namespace {

using namespace odmoe;
using namespace odmoe::cli;

int complain(std::string message, int code) {
  std::ranges::replace_if(message, [](char c) { return c == '\n' || c == '\r'; }, ' ');
  std::cerr << "odmoe train: " << message << std::endl;
  return code;
}

std::string percentages(const std::vector<double>& recall) {
  std::string text;
  for (const double value : recall) text += odmoe::format("{}{:.2f}", text.empty() ? "" : " ", 100 * value);
  return text + " %";
}

std::string source_name(const RoutedModel& model, int32_t source) {
  return source < 0 ? "embedding" : odmoe::format("layer {}", model.layers[static_cast<size_t>(source)]);
}

std::string summary(const TrainResult& result, const TrainOptions& options) {
  const ShadowSpec& spec = result.spec;
  std::string text =
      odmoe::format("recall of the {} experts chosen, on held-out documents, 1 to {} layers ahead:\n",
                    spec.model.n_expert_used, spec.lookahead);
  int32_t source = spec.embedding ? -1 : 0;
  for (const std::vector<double>& recall : result.source_recall) {
    text += odmoe::format("  {:<10} {}\n", source_name(spec.model, source++), percentages(recall));
  }
  text += odmoe::format("  {:<10} {}\n", "mean", percentages(spec.recall));
  std::filesystem::path picture = options.output;
  picture.replace_extension(".svg");
  return text + odmoe::format("{}: trained on {} tokens in {} epochs; {} shows how it went\n",
                              options.output.string(), spec.n_token, result.epochs.size(), picture.string());
}

int run(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  interrupt::install();
  TrainOptions options;
  CLI::App app("Trains a shadow model; odmoe train runs it", "odmoe-train");
  app.add_option("--data", options.data)->required();
  app.add_option("--output", options.output)->required();
  add_training_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return complain(error.what(), kExitUsage);
  }
  Progress bar("Training");
  std::string detail;
  const TrainedEpoch* shown = nullptr;
  const auto result = train(options, [&](const TrainProgress& so_far) {
    if (so_far.last != shown || detail.empty()) {
      shown = so_far.last;
      detail = odmoe::format("group {} of {}", so_far.group + 1, so_far.n_group);
      if (shown != nullptr) {
        detail += odmoe::format(", epoch {}: loss {:.4f}, recall {}", shown->epoch, shown->loss,
                                percentages(shown->recall));
      }
    }
    bar.update(so_far.fraction, detail);
    return !interrupt::pending();
  });
  bar.finish();
  if (!result.has_value() && result.error().kind == ErrorKind::kInterrupted) {
    return complain(
        odmoe::format("interrupted; the same command goes on from {}.checkpoint", options.output.string()),
        kExitInterrupted);
  }
  if (!result.has_value()) {
    return complain(result.error().message,
                    result.error().kind == ErrorKind::kUsage ? kExitUsage : kExitError);
  }
  Output output = Output::standard_output();
  (void)output.write(summary(*result, options));
  const Result<int> code = output.exit_code();
  return code.has_value() ? *code : complain(code.error().message, kExitError);
}

}  // namespace

int main(int argc, char** argv) {
  hold_standard_descriptors();
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return complain("out of memory; give a smaller --data-memory or --hidden", kExitError);
  } catch (const std::exception& error) {
    return complain(std::string("internal error: ") + error.what(), kExitError);
  }
}
