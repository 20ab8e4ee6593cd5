// odmoe train: trains a shadow model.  The work is done by odmoe-train, which needs LibTorch.
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "base/program_path.h"
#include "cli/child.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/train_flags.h"

namespace odmoe::cli {
namespace {

namespace fs = std::filesystem;

struct TrainCommand {
  TrainOptions train;
  std::string quick_model;  // empty: the data is there already
  std::vector<std::string> corpus;
  int64_t n_token = 50'000;
  std::string memory = "auto";
};

// Beside us in a build, under libexec when installed.
Result<fs::path> find_trainer() {
  const fs::path here = program_path().parent_path();
  for (const fs::path& path : {here / "odmoe-train", here / ODMOE_LIBEXEC / "odmoe/odmoe-train"}) {
    std::error_code ignored;
    if (fs::is_regular_file(path, ignored)) return path;
  }
  return fail(ErrorKind::kUnsupported,
              "this build cannot train: install LibTorch (Debian: apt install libtorch-dev "
              "libopenblas0-openmp; macOS: brew install "
              "pytorch) and build again");
}

// Collects into OUTPUT.data, trains, and shows what it is worth beside what needs no training.
Result<int> quick(const TrainCommand& options, const fs::path& trainer) {
  if (options.corpus.empty()) {
    return fail(ErrorKind::kUsage,
                "--quick needs text like that which the model will work on: --corpus FILE");
  }
  TrainOptions train = options.train;
  if (train.data.empty()) train.data = train.output.string() + ".data";
  const fs::path self = program_path();
  std::vector<std::string> collect = {"collect",      options.quick_model, "--memory",
                                      options.memory, "--tokens",          std::to_string(options.n_token),
                                      "--output",     train.data.string(), "--corpus"};
  collect.insert(collect.end(), options.corpus.begin(), options.corpus.end());
  say("1 of 3: collecting");
  ODMOE_ASSIGN_OR_RETURN(int code, run_child(self, collect));
  if (code != kExitOk) return code;
  say("2 of 3: training");
  ODMOE_ASSIGN_OR_RETURN(code, run_child(trainer, training_arguments(train)));
  if (code != kExitOk) return code;
  say("3 of 3: evaluating");
  return run_child(self, {"evaluate", "--data", train.data.string(), "--shadow", train.output.string()});
}

Result<int> run(const TrainCommand& options) {
  TrainOptions checked = options.train;
  if (!options.quick_model.empty() && checked.data.empty()) checked.data = "collected";
  ODMOE_RETURN_IF_ERROR(checked.validate());
  ODMOE_ASSIGN_OR_RETURN(const fs::path trainer, find_trainer());
  if (!options.quick_model.empty()) return quick(options, trainer);
  return run_child(trainer, training_arguments(options.train));
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  const auto options = std::make_shared<TrainCommand>();
  CLI::App* command =
      app.add_subcommand("train", "Train a shadow model, which foresees what experts come next");
  command->add_option("--data", options->train.data, "What odmoe collect has written")
      ->type_name("DIR")
      ->group("Data");
  command
      ->add_option("-o,--output", options->train.output,
                   "The weights; the learning curve beside them ends in .svg")
      ->type_name("FILE")
      ->required()
      ->group("Data");
  CLI::Option* quick_option = command
                                  ->add_option("--quick", options->quick_model,
                                               "Collect from this model, train and evaluate, in one go")
                                  ->type_name("MODEL")
                                  ->group("Data");
  command->add_option("--corpus", options->corpus, "For --quick: texts to run the model on")
      ->needs(quick_option)
      ->type_name("FILE...")
      ->group("Data");
  command->add_option("--tokens", options->n_token, "For --quick: tokens to record")
      ->needs(quick_option)
      ->type_name("N")
      ->capture_default_str()
      ->group("Data");
  command->add_option("--memory", options->memory, "For --quick: most memory for running the model")
      ->needs(quick_option)
      ->type_name("SIZE")
      ->capture_default_str()
      ->group("Data");
  add_training_options(*command, options->train);
  command->footer(
      "Ctrl-C stops after what is in OUTPUT.checkpoint; the same command goes on from there, with the same "
      "result\n"
      "as one that was never stopped.  docs/shadow-model.md compares the kinds, sizes and inputs.\n"
      "\n"
      "Examples:\n"
      "  odmoe train --data data/ -o shadow.safetensors --epochs 20\n"
      "  odmoe train --data data/ -o small.safetensors --shared --hidden 256 --input router\n"
      "  odmoe train --data data/ -o linear.safetensors --kind linear --rank 256\n"
      "  odmoe train --quick model.gguf --corpus text.txt -o shadow.safetensors");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace odmoe::cli
