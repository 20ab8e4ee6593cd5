// odmoe bench: infer, how fast a model runs here, measured in rounds so that noise shows; fetch is in
// bench_fetch.cc, predict in bench_predict.cc.
#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/bench_fetch.h"
#include "cli/bench_predict.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/median.h"
#include "cli/model_name.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/report.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct BenchOptions {
  std::string what;
  FetchOptions fetch;
  PredictOptions predict;
  InferenceOptions inference;
  std::string prompt = "It was the best of times, it was the worst of times, it was the age of wisdom";
  int32_t tokens = 64;
  int32_t rounds = 5;
  int32_t warm_up = 1;
  bool json = false;
};

struct Round {
  double prefill_tokens_per_second = 0;
  double decode_tokens_per_second = 0;
  // Of decoding.
  double stall_share = 0;            // of its time
  double hit_rate = 0;               // of its demands
  double read_bytes_per_token = 0;   // for demands and ahead of them
  double read_bytes_per_second = 0;  // of these and of fills, while at least one read was under way
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Greedy, and on past end tokens: what is measured is the machine, not the text.
Result<Round> run_round(Engine& engine, Session& session, std::span<const Token> prompt, int32_t n) {
  session.truncate(0);
  Round round;
  auto begin = std::chrono::steady_clock::now();
  ODMOE_RETURN_IF_ERROR(session.evaluate(prompt));
  round.prefill_tokens_per_second = static_cast<double>(prompt.size()) / seconds_since(begin);

  const Stats before = engine.stats();
  begin = std::chrono::steady_clock::now();
  for (int32_t i = 0; i < n; ++i) {
    const auto best = std::ranges::max_element(session.logits()) - session.logits().begin();
    const auto token = static_cast<Token>(best);
    ODMOE_RETURN_IF_ERROR(session.evaluate({&token, 1}));
  }
  const double seconds = seconds_since(begin);
  const Stats after = engine.stats();
  const auto demands = static_cast<double>(after.experts.demands - before.experts.demands);
  round.decode_tokens_per_second = n / seconds;
  round.stall_share = static_cast<double>(after.io.stall_us - before.io.stall_us) * 1e-6 / seconds;
  round.hit_rate = static_cast<double>(after.experts.hits - before.experts.hits) / demands;
  const auto read_bytes = static_cast<double>(after.io.demand_read_bytes - before.io.demand_read_bytes +
                                              after.io.prefetch_read_bytes - before.io.prefetch_read_bytes);
  round.read_bytes_per_token = read_bytes / n;
  const auto busy_us = static_cast<double>(after.io.read_busy_us - before.io.read_busy_us);
  const auto all_bytes = static_cast<double>(after.io.total_read_bytes() - before.io.total_read_bytes());
  round.read_bytes_per_second = busy_us > 0 ? all_bytes * 1e6 / busy_us : 0;
  return round;
}

std::string report_text(const std::vector<Round>& rounds, bool json, size_t prompt_tokens, int32_t tokens,
                        double probed_bytes_per_second) {
  const auto middle = [&](double Round::* field) {
    std::vector<double> values;
    values.reserve(rounds.size());
    for (const Round& round : rounds) values.push_back(round.*field);
    return median(std::move(values));
  };
  const Round m{.prefill_tokens_per_second = middle(&Round::prefill_tokens_per_second),
                .decode_tokens_per_second = middle(&Round::decode_tokens_per_second),
                .stall_share = middle(&Round::stall_share),
                .hit_rate = middle(&Round::hit_rate),
                .read_bytes_per_token = middle(&Round::read_bytes_per_token),
                .read_bytes_per_second = middle(&Round::read_bytes_per_second)};
  if (json) {
    const auto object = [](const Round& r) {
      return nlohmann::ordered_json{{"prefill_tokens_per_second", r.prefill_tokens_per_second},
                                    {"decode_tokens_per_second", r.decode_tokens_per_second},
                                    {"stall_share", r.stall_share},
                                    {"hit_rate", r.hit_rate},
                                    {"read_bytes_per_token", r.read_bytes_per_token},
                                    {"read_bytes_per_second", r.read_bytes_per_second}};
    };
    nlohmann::ordered_json report = {
        {"prompt_tokens", prompt_tokens}, {"tokens", tokens}, {"median", object(m)}};
    if (probed_bytes_per_second > 0) report["probed_bytes_per_second"] = probed_bytes_per_second;
    for (const Round& round : rounds) report["rounds"].push_back(object(round));
    return report.dump(2) + "\n";
  }
  std::string text =
      odmoe::format("{:>6} {:>14} {:>13} {:>8} {:>9} {:>14} {:>12}\n", "round", "prefill tok/s",
                    "decode tok/s", "stall", "hit rate", "MiB read/tok", "reads MiB/s");
  const auto row = [&](const std::string& name, const Round& r) {
    text += odmoe::format("{:>6} {:>14.2f} {:>13.2f} {:>7.1f}% {:>8.1f}% {:>14.2f} {:>12.0f}\n", name,
                          r.prefill_tokens_per_second, r.decode_tokens_per_second, 100 * r.stall_share,
                          100 * r.hit_rate, r.read_bytes_per_token / (1 << 20),
                          r.read_bytes_per_second / (1 << 20));
  };
  for (size_t i = 0; i < rounds.size(); ++i) row(std::to_string(i + 1), rounds[i]);
  row("median", m);
  return text;
}

Result<int> run(const BenchOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.inference.engine.validate());
  ODMOE_ASSIGN_OR_RETURN(auto engine, ReportedEngine::open(options.inference));
  const interrupt::Watch watch(*engine);
  ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
  const std::vector<Token> prompt = engine->encode(options.prompt);
  if (prompt.empty()) return fail(ErrorKind::kUsage, "the prompt is empty; give at least one token of text");

  std::vector<Round> rounds;
  Progress bar("Measuring");
  const int32_t total = options.warm_up + options.rounds;
  for (int32_t i = 0; i < total; ++i) {
    bar.update(static_cast<double>(i) / total);
    const auto round = run_round(*engine, *session, prompt, options.tokens);
    if (!round.has_value()) {
      bar.finish();
      return engine.finish(std::unexpected(round.error()));
    }
    if (i >= options.warm_up) rounds.push_back(*round);
  }
  bar.finish();
  Output output = Output::standard_output();
  (void)output.write(report_text(rounds, options.json, prompt.size(), options.tokens,
                                 engine->stats().io.probed_bytes_per_second()));
  return engine.finish(output.exit_code());
}

// An option without effect is a mistake that somebody should hear of.
void refuse_options_of_others(const CLI::App& command, const std::string& what) {
  constexpr std::array kOfFetch = {"--json", "--reader", "--read-depth", "--mirror", "--no-probe", "--help"};
  constexpr std::array kOfPredict = {"--json", "--shadow", "--help"};
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || option->get_lnames().empty()) continue;
    const std::string name = "--" + option->get_lnames().front();
    const std::string& group = option->get_group();
    const bool shared = group != "Fetch" && group != "Predict";
    const bool takes = what == "fetch"     ? group == "Fetch" || std::ranges::contains(kOfFetch, name)
                       : what == "predict" ? group == "Predict" || std::ranges::contains(kOfPredict, name)
                                           : shared;
    if (takes) continue;
    throw CLI::ValidationError(name, odmoe::format("it has no effect on what `bench {}` measures", what));
  }
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Measure how fast a model runs here");
  const auto options = std::make_shared<BenchOptions>();
  command
      ->add_option(
          "WHAT", options->what,
          "infer: prefill and decode speed, in rounds; fetch: what the drives can do, by size and "
          "number of reads, and how much of it the expert store gets; predict (takes no model): how long "
          "a guess of the learned predictor takes")
      ->type_name("infer|fetch|predict")
      ->check(CLI::IsMember({"infer", "fetch", "predict"}))
      ->required();
  command->add_option("-p,--prompt", options->prompt, "The text that is evaluated first")
      ->type_name("TEXT")
      ->group("Measure");
  command->add_option("-n,--predict", options->tokens, "Tokens decoded in a round, greedily")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20))
      ->group("Measure");
  command->add_option("--rounds", options->rounds, "Rounds that are measured; the medians are reported")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000))
      ->group("Measure");
  command->add_option("--warm-up", options->warm_up, "Rounds before those, not measured")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000))
      ->group("Measure");
  command->add_flag("--json", options->json, "Print one JSON object")->group("Report");
  add_inference_options(*command, options->inference);
  command->get_option("MODEL")->required(false);  // but for `predict`: see below
  add_fetch_options(*command, options->fetch);
  add_predict_options(*command, options->predict);
  command->footer(
      "Examples:\n"
      "  odmoe bench infer model.gguf --memory 25%\n"
      "  odmoe bench infer model.gguf --memory 8GiB -n 128 --rounds 3 --json\n"
      "  odmoe bench fetch model.gguf\n"
      "  odmoe bench fetch model.gguf --mirror /mnt/second/model.gguf --depths 1,8,64 --seconds 20\n"
      "  odmoe bench predict\n"
      "  odmoe bench predict --n-embd 2048 --experts 64 --layers 26 --hidden 256 --type q8_0,f16 --json\n"
      "  odmoe bench predict --shadow shadow.safetensors --type f16,q8_0,q4_0");
  command->callback([&action, options, command] {
    refuse_options_of_others(*command, options->what);
    const bool has_model = command->get_option("MODEL")->count() > 0;
    if (options->what == "predict" && has_model) {
      throw CLI::ValidationError("MODEL", "`bench predict` measures shapes, not a model; leave it out");
    }
    if (options->what != "predict" && !has_model) throw CLI::RequiredError("MODEL");
    const Action measure = with_model(options->inference.engine.model, [options] {
      if (options->what == "predict") {
        return bench_predict(options->predict, options->inference.engine.shadow, options->json);
      }
      return options->what == "fetch" ? bench_fetch(options->inference.engine, options->fetch, options->json)
                                      : run(*options);
    });
    action = options->what == "infer" ? ranks::on_each(options->inference, measure) : measure;
  });
}

}  // namespace odmoe::cli
