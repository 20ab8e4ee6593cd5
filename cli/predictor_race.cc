#include "cli/predictor_race.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/median.h"
#include "cli/progress.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

RaceTurn difference(const Stats& before, const Stats& after, int32_t tokens, double seconds) {
  RaceTurn turn{.tokens_per_second = tokens / seconds,
                .stall_share = static_cast<double>(after.io.stall_us - before.io.stall_us) * 1e-6 / seconds,
                .demands = after.experts.demands - before.experts.demands,
                .hits = after.experts.hits - before.experts.hits,
                .late_hits = after.experts.late_hits - before.experts.late_hits,
                .misses = after.experts.misses - before.experts.misses,
                .prefetched = after.predictor.prefetched - before.predictor.prefetched,
                .prefetched_used = after.predictor.prefetched_used - before.predictor.prefetched_used,
                .prefetched_late = after.predictor.prefetched_late - before.predictor.prefetched_late,
                .demand_read_bytes = after.io.demand_read_bytes - before.io.demand_read_bytes,
                .prefetch_read_bytes = after.io.prefetch_read_bytes - before.io.prefetch_read_bytes,
                .ahead = after.predictor.ahead};
  for (size_t i = 0; i < std::min(turn.ahead.size(), before.predictor.ahead.size()); ++i) {
    turn.ahead[i].wanted -= before.predictor.ahead[i].wanted;
    turn.ahead[i].foreseen -= before.predictor.ahead[i].foreseen;
  }
  return turn;
}

// The text's own tokens are decoded, not what the model would say: the same work for everyone.
Result<RaceTurn> run_turn(const RaceOptions& options, PredictorKind kind, const std::string& text) {
  EngineOptions engine_options = options.engine;
  engine_options.predictor = kind;
  engine_options.shadow = kind == PredictorKind::kShadow ? options.shadow : std::filesystem::path();
  const int32_t n_token = options.prompt_tokens + options.tokens;
  if (engine_options.context == 0) engine_options.context = n_token;
  ODMOE_ASSIGN_OR_RETURN(const auto engine, Engine::open(engine_options, [](uint64_t, uint64_t) {
                           return !interrupt::pending();
                         }));
  const interrupt::Watch watch(*engine);
  const std::vector<Token> tokens = engine->encode(text);
  if (std::cmp_less(tokens.size(), n_token)) {
    return fail(ErrorKind::kUsage, "{} has {} tokens; give more, or fewer --prompt-tokens and --tokens-each",
                options.text, tokens.size());
  }
  ODMOE_ASSIGN_OR_RETURN(const auto session, engine->new_session());
  const std::span<const Token> all(tokens);
  ODMOE_RETURN_IF_ERROR(session->evaluate(all.first(static_cast<size_t>(options.prompt_tokens))));
  const Stats before = engine->stats();
  const auto begin = std::chrono::steady_clock::now();
  for (int32_t i = options.prompt_tokens; i < n_token; ++i) {
    ODMOE_RETURN_IF_ERROR(session->evaluate(all.subspan(static_cast<size_t>(i), 1)));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return difference(before, engine->stats(), options.tokens, seconds);
}

double speed(const Racer& racer) {
  std::vector<double> values;
  for (const RaceTurn& turn : racer.turns) values.push_back(turn.tokens_per_second);
  return median(std::move(values));
}

struct Sums {
  double hit_rate = 0, late_rate = 0, accuracy = 0, stall = 0, read_bytes = 0;
  uint64_t misses = 0;
  std::vector<double> recall;
};

Sums sums(const Racer& racer, int32_t tokens) {
  RaceTurn all;
  Sums out;
  for (const RaceTurn& turn : racer.turns) {
    all.demands += turn.demands;
    all.hits += turn.hits;
    all.late_hits += turn.late_hits;
    all.misses += turn.misses;
    all.prefetched += turn.prefetched;
    all.prefetched_used += turn.prefetched_used;
    all.demand_read_bytes += turn.demand_read_bytes + turn.prefetch_read_bytes;
    out.stall += turn.stall_share / static_cast<double>(racer.turns.size());
    all.ahead.resize(std::max(all.ahead.size(), turn.ahead.size()));
    for (size_t i = 0; i < turn.ahead.size(); ++i) {
      all.ahead[i].wanted += turn.ahead[i].wanted;
      all.ahead[i].foreseen += turn.ahead[i].foreseen;
    }
  }
  const auto demands = static_cast<double>(all.demands);
  out.hit_rate = ratio(static_cast<double>(all.hits), demands);
  out.late_rate = ratio(static_cast<double>(all.late_hits), demands);
  out.accuracy = ratio(static_cast<double>(all.prefetched_used), static_cast<double>(all.prefetched));
  out.read_bytes =
      ratio(static_cast<double>(all.demand_read_bytes), static_cast<double>(racer.turns.size()) * tokens);
  out.misses = all.misses;
  for (const auto& ahead : all.ahead) {
    out.recall.push_back(ratio(static_cast<double>(ahead.foreseen), static_cast<double>(ahead.wanted)));
  }
  return out;
}

// The racer that all others are compared with: the one without predictor, if it runs.
const Racer* plain(const RaceResult& result) {
  const auto found = std::ranges::find(result.racers, predictor_name(PredictorKind::kNone), &Racer::name);
  return found != result.racers.end() && !found->turns.empty() ? &*found : nullptr;
}

// Misses avoided over misses without prefetching, if that ran; rounds that only one of both has are left out
// by comparing misses of a round.
double coverage(const RaceResult& result, const Racer& racer, const Sums& own) {
  const Racer* none = plain(result);
  if (none == nullptr || racer.turns.empty()) return 0;
  const double without =
      static_cast<double>(sums(*none, result.tokens).misses) / static_cast<double>(none->turns.size());
  const double with = static_cast<double>(own.misses) / static_cast<double>(racer.turns.size());
  return ratio(without - with, without);
}

}  // namespace

void add_race_options(CLI::App& command, RaceOptions& options) {
  command.add_option("--text", options.text, "Text to run the model on")->type_name("FILE")->group("Run");
  command
      .add_option_function<std::vector<std::string>>(
          "--predictor",
          [&options](const std::vector<std::string>& names) {
            options.predictors.clear();
            for (const std::string& name : names) {
              if (name == "all" && names.size() == 1) break;
              const auto kind = parse_predictor(name);
              if (!kind.has_value()) throw CLI::ValidationError("--predictor", kind.error().message);
              options.predictors.push_back(*kind);
            }
          },
          "Those that take turns; all: every one, the shadow model if --shadow gives one")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME,...")
      ->default_str("all")
      ->group("Run");
  const auto number = [&](const char* name, int32_t& value, const char* help) {
    command.add_option(name, value, help)
        ->type_name("N")
        ->capture_default_str()
        ->check(CLI::Range(1, 1 << 20).description(""))
        ->group("Run");
  };
  number("--prompt-tokens", options.prompt_tokens, "Tokens evaluated at once before the clock starts");
  number("--tokens-each", options.tokens, "Tokens decoded in a turn");
  number("--rounds", options.rounds, "Turns of each");
}

Result<RaceResult> race_predictors(const RaceOptions& options) {
  std::vector<PredictorKind> kinds = options.predictors;
  if (kinds.empty()) {
    for (const PredictorKind kind : all_predictors()) {
      if (kind != PredictorKind::kShadow || !options.shadow.empty()) kinds.push_back(kind);
    }
  }
  EngineOptions checked = options.engine;
  for (const PredictorKind kind : kinds) {
    checked.predictor = kind;
    checked.shadow = kind == PredictorKind::kShadow ? options.shadow : std::filesystem::path();
    ODMOE_RETURN_IF_ERROR(checked.validate());
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string text, read_file(options.text));
  RaceResult result{.tokens = options.tokens};
  for (const PredictorKind kind : kinds) result.racers.push_back({std::string(predictor_name(kind)), {}});
  Progress bar("Running");
  const auto total = static_cast<double>(options.rounds) * static_cast<double>(kinds.size());
  for (int32_t round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < kinds.size(); ++i) {
      bar.update((round * static_cast<double>(kinds.size()) + static_cast<double>(i)) / total,
                 odmoe::format("round {} of {}: {}", round + 1, options.rounds, result.racers[i].name));
      Result<RaceTurn> turn = run_turn(options, kinds[i], text);
      if (!turn.has_value() && turn.error().kind == ErrorKind::kInterrupted) {
        result.interrupted = true;
        return result;
      }
      if (!turn.has_value()) return std::unexpected(turn.error());
      result.racers[i].turns.push_back(std::move(*turn));
    }
  }
  return result;
}

std::string race_table(const RaceResult& result) {
  std::string text = odmoe::format(
      "{} tokens decoded in each turn; medians of speed, means of the rest\n"
      "{:<15}{:>7}{:>10}{:>9}{:>9}{:>9}{:>9}{:>10}{:>10}{:>12}  recall by layers ahead, %\n",
      result.tokens, "predictor", "turns", "tok/s", "of none", "hits, %", "late, %", "stall, %",
      "accuracy, %", "coverage, %", "MiB/token");
  const Racer* none = plain(result);
  for (const Racer& racer : result.racers) {
    if (racer.turns.empty()) continue;
    const Sums own = sums(racer, result.tokens);
    text += odmoe::format("{:<15}{:>7}{:>10.2f}{:>9}{:>9.2f}{:>9.2f}{:>9.2f}{:>11.2f}{:>12.2f}{:>11.2f} ",
                          racer.name, racer.turns.size(), speed(racer),
                          none != nullptr ? odmoe::format("{:.3f}", speed(racer) / speed(*none)) : "-",
                          100 * own.hit_rate, 100 * own.late_rate, 100 * own.stall, 100 * own.accuracy,
                          100 * coverage(result, racer, own), own.read_bytes / (1 << 20));
    for (const double recall : own.recall) text += odmoe::format(" {:.1f}", 100 * recall);
    text += "\n";
  }
  if (result.interrupted) text += "interrupted; this is what was measured\n";
  return text;
}

std::string race_json(const RaceResult& result) {
  nlohmann::ordered_json json = {{"tokens", result.tokens}, {"interrupted", result.interrupted}};
  json["predictors"] = nlohmann::ordered_json::array();
  const Racer* none = plain(result);
  for (const Racer& racer : result.racers) {
    if (racer.turns.empty()) continue;
    const Sums own = sums(racer, result.tokens);
    nlohmann::ordered_json object = {{"name", racer.name},
                                     {"tokens_per_second", speed(racer)},
                                     {"hit_rate", own.hit_rate},
                                     {"late_hit_rate", own.late_rate},
                                     {"stall_share", own.stall},
                                     {"accuracy", own.accuracy},
                                     {"read_bytes_per_token", own.read_bytes},
                                     {"recall", own.recall}};
    if (none != nullptr) {
      object["speed_of_none"] = speed(racer) / speed(*none);
      object["coverage"] = coverage(result, racer, own);
    }
    for (const RaceTurn& turn : racer.turns) {
      object["turns"].push_back({{"tokens_per_second", turn.tokens_per_second},
                                 {"stall_share", turn.stall_share},
                                 {"demands", turn.demands},
                                 {"hits", turn.hits},
                                 {"late_hits", turn.late_hits},
                                 {"misses", turn.misses},
                                 {"prefetched", turn.prefetched},
                                 {"prefetched_used", turn.prefetched_used},
                                 {"prefetched_late", turn.prefetched_late},
                                 {"demand_read_bytes", turn.demand_read_bytes},
                                 {"prefetch_read_bytes", turn.prefetch_read_bytes}});
    }
    json["predictors"].push_back(std::move(object));
  }
  return json.dump(2) + "\n";
}

}  // namespace odmoe::cli
