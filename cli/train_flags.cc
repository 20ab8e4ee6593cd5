#include "cli/train_flags.h"

#include <algorithm>
#include <array>

#include "cli/choice.h"
#include "odmoe/format.h"
#include "odmoe/options.h"

namespace odmoe::cli {
namespace {

enum class ShadowKind { kResidual, kMlp, kLinear };

constexpr std::array kInputs = {ShadowInput::kRouter, ShadowInput::kAttention, ShadowInput::kExperts,
                                ShadowInput::kPrevious};

void set_kind(TrainOptions& options, ShadowKind kind) {
  options.direct = kind != ShadowKind::kMlp;
  if (kind == ShadowKind::kLinear) options.hidden = 0;
}

std::string inputs_text(const std::vector<ShadowInput>& inputs) {
  std::string text;
  for (const ShadowInput input : inputs)
    text += (text.empty() ? "" : ",") + std::string(shadow_input_name(input));
  return text;
}

}  // namespace

void add_training_options(CLI::App& command, TrainOptions& options) {
  command
      .add_option("--held-out", options.held_out, "Data to judge by; without, every tenth document of --data")
      ->type_name("DIR")
      ->group("Data");
  command
      .add_option_function<double>(
          "--data-memory",
          [&options](double gib) { options.data_bytes = static_cast<uint64_t>(gib * 1024 * 1024 * 1024); },
          "GiB of states held at once; layers beyond it are read when their turn comes")
      ->check(CLI::Range(0.001, 1e6))
      ->type_name("N")
      ->default_str("4")
      ->group("Data");

  command
      .add_option_function<std::string>(
          "--input",
          [&options](const std::string& text) {
            options.inputs.clear();
            for (size_t at = 0; at <= text.size();) {
              const size_t end = std::min(text.find(',', at), text.size());
              const std::string name = text.substr(at, end - at);
              const auto input =
                  std::ranges::find(kInputs, name, [](ShadowInput i) { return shadow_input_name(i); });
              if (input == kInputs.end()) {
                throw CLI::ValidationError(
                    "--input", "'" + name + "' is not one of router, attention, experts, previous");
              }
              options.inputs.push_back(*input);
              at = end + 1;
            }
          },
          "What it sees, separated by commas: router (what this layer's router saw), attention (the state "
          "before "
          "this layer's attention), experts (this layer's), previous (those the token before had ahead)")
      ->type_name("LIST")
      ->default_str(inputs_text(options.inputs))
      ->group("Model");
  command.add_option("--lookahead", options.lookahead, "Layers foreseen")
      ->check(CLI::Range(1, kMaxLookahead))
      ->type_name("N")
      ->capture_default_str()
      ->group("Model");
  command.add_option("--hidden", options.hidden, "Hidden units of each layer's predictor")
      ->type_name("N")
      ->capture_default_str()
      ->group("Model");
  // After --hidden, so that linear wins whatever the order.
  add_choice<ShadowKind>(
      command, "--kind", ShadowKind::kResidual,
      {{"residual", ShadowKind::kResidual}, {"mlp", ShadowKind::kMlp}, {"linear", ShadowKind::kLinear}},
      "residual: the stale gate, trained on, and what hidden units correct; mlp: hidden units alone; "
      "linear: none",
      [&options](ShadowKind kind) { set_kind(options, kind); })
      ->group("Model");
  command.add_option("--depth", options.depth, "Layers of hidden units")
      ->type_name("N")
      ->capture_default_str()
      ->group("Model");
  command.add_option("--rank", options.direct_rank, "Most rank of the linear part; 0: full")
      ->type_name("N")
      ->capture_default_str()
      ->group("Model");
  command
      .add_flag("--shared", options.shared_trunk, "One trunk of hidden units for all layers: much smaller")
      ->group("Model");
  command
      .add_flag_callback(
          "--no-embedding", [&options] { options.embedding = false; },
          "Do not foresee the first layers from the token's embedding")
      ->group("Model");
  command.add_flag("--half", options.half, "Write the weights as f16: half the size")->group("Model");

  command.add_option("--epochs", options.epochs, "Times through the data, at most")
      ->type_name("N")
      ->capture_default_str()
      ->group("Training");
  command.add_option("--patience", options.patience, "Epochs without a better recall before it stops")
      ->type_name("N")
      ->capture_default_str()
      ->group("Training");
  command.add_option("--batch", options.batch, "Tokens of a mini-batch")
      ->type_name("N")
      ->capture_default_str()
      ->group("Training");
  command.add_option("--learning-rate", options.learning_rate, "Its highest")
      ->type_name("X")
      ->capture_default_str()
      ->group("Training");
  command.add_option("--weight-decay", options.weight_decay, "Of AdamW")
      ->type_name("X")
      ->capture_default_str()
      ->group("Training");
  command.add_option("--dropout", options.dropout, "Share of hidden units left out while training")
      ->type_name("X")
      ->capture_default_str()
      ->group("Training");
  command.add_option("--seed", options.seed, "Of the first weights and the order of the data")
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 62U))
      ->type_name("N")
      ->capture_default_str()
      ->group("Training");
  command
      .add_option("-t,--threads", options.threads,
                  "Threads that compute; 0: one per processor that affinity and quota (cgroup) allow")
      ->type_name("N")
      ->capture_default_str()
      ->group("Training");
}

std::vector<std::string> training_arguments(const TrainOptions& options) {
  std::vector<std::string> arguments = {"--data", options.data.string(), "--output", options.output.string()};
  const auto add = [&](const char* name, std::string value) {
    arguments.emplace_back(name);
    arguments.push_back(std::move(value));
  };
  if (!options.held_out.empty()) add("--held-out", options.held_out.string());
  add("--data-memory", odmoe::format("{}", static_cast<double>(options.data_bytes) / (1024.0 * 1024 * 1024)));
  add("--input", inputs_text(options.inputs));
  add("--lookahead", std::to_string(options.lookahead));
  add("--hidden", std::to_string(options.hidden));
  add("--kind", !options.direct ? "mlp" : options.hidden == 0 ? "linear" : "residual");
  add("--depth", std::to_string(options.depth));
  add("--rank", std::to_string(options.direct_rank));
  if (options.shared_trunk) arguments.emplace_back("--shared");
  if (!options.embedding) arguments.emplace_back("--no-embedding");
  if (options.half) arguments.emplace_back("--half");
  add("--epochs", std::to_string(options.epochs));
  add("--patience", std::to_string(options.patience));
  add("--batch", std::to_string(options.batch));
  add("--learning-rate", odmoe::format("{}", options.learning_rate));
  add("--weight-decay", odmoe::format("{}", options.weight_decay));
  add("--dropout", odmoe::format("{}", options.dropout));
  add("--seed", std::to_string(options.seed));
  add("--threads", std::to_string(options.threads));
  return arguments;
}

}  // namespace odmoe::cli
