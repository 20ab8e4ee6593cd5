// odmoe tune: finds what is fastest for a model on this machine, keeps it, and says what each change brought.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "base/processors.h"
#include "cli/command.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/kept_tuning.h"
#include "cli/model_name.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/tuner.h"
#include "cli/tuning_report.h"
#include "engine/device_support.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct TuneOptions {
  InferenceOptions inference;
  std::string prompt_file;
  TurnLengths turn{.prompt_tokens = 2048, .answer_tokens = 256};
  int32_t seconds = 120;
  bool forget = false;
  bool json = false;
};

// What a model reads where the user has no text of his own: prose, a list, code.
constexpr const char* kText =
    "The harbour was quiet before sunrise. Two boats had come back early, and the women who mended nets sat "
    "on "
    "the wall and talked about the price of bread, the new school and whether the north wind would last "
    "until "
    "Sunday. \"It never does,\" said the oldest of them, \"and yet it always comes back.\"\n\n"
    "How a letter travels: 1. it is written and sealed; 2. a carrier takes it to an office, where it is "
    "weighed, "
    "stamped and sorted by place; 3. a train brings it to another office; 4. somebody walks the last street. "
    "Of "
    "12,480 letters counted in 1913, 97 % arrived within three days.\n\n"
    "def median(values):\n    ordered = sorted(values)\n    middle = len(ordered) // 2\n"
    "    if len(ordered) % 2:\n        return ordered[middle]\n"
    "    return (ordered[middle - 1] + ordered[middle]) / 2\n\n"
    "Light that passes from air into water changes its direction, since it is slower there; the ratio of the "
    "two "
    "speeds is the index of refraction, 1.33 for water and about 1.5 for glass. Question: why does a "
    "straight "
    "stick look bent in a pond? Answer: the eye assumes that light came straight.\n\n";

// So many tokens of the text, over and over.
std::vector<Token> tokens_of(const Engine& engine, const std::string& text, size_t n) {
  const std::vector<Token> once = engine.encode(text);
  std::vector<Token> tokens;
  while (tokens.size() < n && !once.empty()) {
    tokens.insert(tokens.end(), once.begin(),
                  once.begin() + static_cast<ptrdiff_t>(std::min(once.size(), n - tokens.size())));
  }
  return tokens;
}

// How much is evaluated in one measurement.
struct Sample {
  int32_t prompt_tokens = 0, answer_tokens = 0;
};

// Opens the model anew for each measurement.
class Bench {
 public:
  Bench(const TuneOptions& options, std::string text) : options_(options), text_(std::move(text)) {}

  // The plan that was made is plan() afterwards.  The experts come from the drive at first each time.
  Result<MeasuredSpeed> measure(const Tuning& tuning, const Sample& sample) {
    EngineOptions engine_options = options_.inference.engine;
    set_tuning(engine_options, tuning);
    engine_options.prefetching_file.clear();  // what is known of some settings would put the others behind
    if (!device_.empty()) engine_options.device = device_;
    ODMOE_ASSIGN_OR_RETURN(const auto engine, Engine::open(engine_options, [](uint64_t, uint64_t) {
                             return !interrupt::pending();
                           }));
    device_ = engine->plan().device.name.empty() ? "cpu" : engine->plan().device.name;
    const interrupt::Watch watch(*engine);
    ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
    const std::vector<Token> prompt = tokens_of(*engine, text_, static_cast<size_t>(sample.prompt_tokens));
    if (prompt.empty()) return fail(ErrorKind::kUsage, "the text to tune with is empty");
    const GenerateOptions generate{
        .sampling = {.temperature = 1, .seed = 1}, .max_tokens = sample.answer_tokens, .ignore_eos = true};
    ODMOE_ASSIGN_OR_RETURN(const auto answer, engine->generate(*session, prompt, generate,
                                                               [](std::string_view) { return true; }));
    if (answer.finish == FinishReason::kInterrupted) return fail(ErrorKind::kInterrupted, "interrupted");
    plan_ = engine->plan();
    const Stats stats = engine->stats();
    return MeasuredSpeed{.prefill = stats.prefill.tokens_per_second(),
                         .decode = stats.decode.tokens_per_second()};
  }

  const MemoryPlan& plan() const { return plan_; }

 private:
  const TuneOptions& options_;
  std::string text_;
  std::string device_;  // of the first measurement, for all
  MemoryPlan plan_;
};

// As much as a twentieth of the time allows: a setting takes two to five measurements.
Sample sample_for(const MeasuredSpeed& speed, const TurnLengths& turn, int32_t seconds) {
  const double slice = seconds / 20.0;
  const auto part = [&](double share, double tokens_per_second, int32_t least, int32_t most) {
    return std::clamp(static_cast<int32_t>(share * slice * tokens_per_second), std::min(least, most), most);
  };
  return {.prompt_tokens = part(0.5, speed.prefill, 16, std::min(512, turn.prompt_tokens)),
          .answer_tokens = part(0.5, speed.decode, 8, turn.answer_tokens)};
}

// Longer chunks show what they bring on a whole prompt alone.
Sample sample_of(TunedSetting setting, const Sample& usual, const TurnLengths& turn) {
  if (setting != TunedSetting::kChunk) return usual;
  return {.prompt_tokens = turn.prompt_tokens, .answer_tokens = usual.answer_tokens};
}

std::vector<TunedValues> values_to_try(const TuneOptions& options, const Tuning& first,
                                       const MemoryPlan& plan) {
  std::vector<TunedValues> all;
  const auto add = [&](TunedSetting setting, std::vector<int64_t> values) {
    if (!is_given(options.inference.given, setting) && !values.empty())
      all.push_back({setting, std::move(values)});
  };
  // Hardware threads of one core share its arithmetic; one core less leaves room for everything else.
  const int processors = usable_processors();
  std::vector<int64_t> threads;
  for (const int n : {processors - 1, processors * 3 / 4, processors / 2}) {
    if (n > 0 && n < processors && !std::ranges::contains(threads, n)) threads.push_back(n);
  }
  add(TunedSetting::kThreads, std::move(threads));
  if (plan.n_slot < plan.n_expert_total) {
    if (options.inference.engine.predictor != PredictorKind::kNone) {
      std::vector<int64_t> ahead{first.lookahead - 1, first.lookahead + 1, first.lookahead - 2};
      std::erase_if(ahead, [](int64_t n) { return n < 1 || n > kMaxLookahead; });
      add(TunedSetting::kLookahead, std::move(ahead));
    }
    // Memory that experts do not take is the page cache's and everybody else's.
    std::vector<int64_t> budgets;
    for (const uint64_t less : {plan.arena_bytes / 4, plan.arena_bytes / 2}) {
      const uint64_t budget = plan.budget_bytes - less;
      if (budget > plan.minimum_bytes) budgets.push_back(static_cast<int64_t>(budget));
    }
    add(TunedSetting::kMemory, std::move(budgets));
  }
  std::vector<int64_t> chunks;
  for (const int32_t chunk : {first.chunk * 2, first.chunk * 4, first.chunk / 2}) {
    if (chunk >= 16 && chunk <= options.turn.prompt_tokens) chunks.push_back(chunk);
  }
  add(TunedSetting::kChunk, std::move(chunks));
  return all;
}

Result<TuningResult> search(const TuneOptions& options, Bench& bench, const Tuning& first) {
  Progress bar("Tuning");
  const int64_t begin_us = SteadyClock::instance().now_us();
  // A short look at how fast it is, which also tries out the drive.
  ODMOE_ASSIGN_OR_RETURN(const MeasuredSpeed rough,
                         bench.measure(first, {.prompt_tokens = 32, .answer_tokens = 8}));
  const Sample usual = sample_for(rough, options.turn, options.seconds);
  const std::vector<TunedValues> values = values_to_try(options, first, bench.plan());
  const int64_t limit_us = options.seconds * int64_t{1'000'000};
  const int64_t spent_us = SteadyClock::instance().now_us() - begin_us;
  return search_tuning(
      first, values, options.turn, limit_us - spent_us, SteadyClock::instance(),
      [&](const Tuning& tuning, TunedSetting setting) {
        return bench.measure(tuning, sample_of(setting, usual, options.turn));
      },
      [&](TunedSetting setting, int64_t value, int64_t elapsed_us) {
        bar.update(std::min(1.0, static_cast<double>(spent_us + elapsed_us) / static_cast<double>(limit_us)),
                   odmoe::format("{} {}", tuned_setting_name(setting), setting_value_text(setting, value)));
      });
}

// Without what the user gave, which is for this run alone.
Tuning found_of(Tuning tuning, const GivenSettings& given) {
  for (const TunedSetting setting : kAllTunedSettings) {
    if (is_given(given, setting)) tuning = tuning.with(setting, tuning_of({}).value(setting));
  }
  return tuning;
}

Result<int> tune(TuneOptions options) {
  EngineOptions& engine = options.inference.engine;
  ODMOE_RETURN_IF_ERROR(engine.validate());
  const std::filesystem::path& file = options.inference.tuning_file;
  if (file.empty()) {
    return fail(ErrorKind::kUsage,
                "nowhere to keep what is found: leave out --no-probe, and set HOME or XDG_CACHE_HOME");
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string key, tuning_key(engine.model));
  if (options.forget) {
    ODMOE_RETURN_IF_ERROR(forget_tuning(file, key));
    ODMOE_RETURN_IF_ERROR(forget_device(engine));
    return kExitOk;
  }
  std::string text = kText;
  if (!options.prompt_file.empty()) {
    ODMOE_ASSIGN_OR_RETURN(text, read_file(options.prompt_file));
  }
  ODMOE_ASSIGN_OR_RETURN(const ModelInfo model, Engine::inspect(engine));
  const int32_t room = model.context - options.turn.answer_tokens;
  if (room < 1) {
    return fail(ErrorKind::kUsage,
                "an answer of {} tokens does not fit the context of {}; --answer-tokens or --context",
                options.turn.answer_tokens, model.context);
  }
  options.turn.prompt_tokens = std::min(options.turn.prompt_tokens, room);

  Bench bench(options, std::move(text));
  const Tuning first = tuning_of(engine);
  ODMOE_ASSIGN_OR_RETURN(const TuningResult result, search(options, bench, first));
  ODMOE_RETURN_IF_ERROR(save_tuning(file, key, found_of(result.best, options.inference.given)));
  Output output = Output::standard_output();
  (void)output.write(options.json ? tuning_json(result, first, options.turn)
                                  : tuning_report(result, first, options.turn, engine.model));
  return output.exit_code();
}

}  // namespace

void add_tune(CLI::App& app, Action& action) {
  const auto options = std::make_shared<TuneOptions>();
  CLI::App* command = app.add_subcommand(
      "tune", "Find threads, lookahead, budget and chunk that are fastest here; run and serve then use them");
  command->add_option("--seconds", options->seconds, "How long it may take")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(10, 86400))
      ->group("Measure");
  command
      ->add_option(
          "--prompt-tokens", options->turn.prompt_tokens,
          "Of the turn that is made short: a prompt of so many tokens, or as many as the context holds")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(16, 1 << 20))
      ->group("Measure");
  command->add_option("--answer-tokens", options->turn.answer_tokens, "And an answer of so many")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(8, 1 << 20))
      ->group("Measure");
  command
      ->add_option("-f,--prompt-file", options->prompt_file,
                   "The text that is read, over and over if it is short; without it, one that is built in")
      ->type_name("FILE")
      ->group("Measure");
  command->add_flag("--forget", options->forget, "Forget what was kept for the model, and measure nothing")
      ->group("Measure");
  command->add_flag("--json", options->json, "Print one JSON object")->group("Report");
  add_inference_options(*command, options->inference);
  command->footer(
      "What is given (--threads 4) is not tuned.  Nothing that is found changes a token, but that a chunk "
      "may\n"
      "change last bits: give --chunk to keep it.  --no-probe makes run and serve pass it over.\n"
      "\n"
      "Examples:\n"
      "  odmoe tune model.gguf\n"
      "  odmoe tune model.gguf --memory 24GiB --seconds 600 --chunk 512\n"
      "  odmoe tune model.gguf -f notes.txt --prompt-tokens 8192 --context 16384\n"
      "  odmoe tune model.gguf --forget");
  command->callback([&action, options, command] {
    options->inference.given = given_settings(*command);
    action = with_model(options->inference.engine.model, [options] { return tune(*options); });
  });
}

}  // namespace odmoe::cli
