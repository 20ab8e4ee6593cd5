// What predictors are worth: one model, the same tokens, one predictor after the other, round by round, so
// that what else the machine does falls on all of them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "odmoe/engine.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe::cli {

struct RaceOptions {
  EngineOptions engine;  // but for its predictor
  std::filesystem::path shadow;
  std::string text;                       // file whose tokens are evaluated
  std::vector<PredictorKind> predictors;  // empty: all, the shadow model if there is a file of it
  int32_t prompt_tokens = 64, tokens = 128, rounds = 3;
};

// Decoding alone, one turn.
struct RaceTurn {
  double tokens_per_second = 0;
  double stall_share = 0;  // of the time
  uint64_t demands = 0, hits = 0, late_hits = 0, misses = 0;
  uint64_t prefetched = 0, prefetched_used = 0, prefetched_late = 0;
  uint64_t demand_read_bytes = 0, prefetch_read_bytes = 0;
  std::vector<Stats::Predictor::Ahead> ahead;
};

struct Racer {
  std::string name;
  std::vector<RaceTurn> turns;
};

struct RaceResult {
  int32_t tokens = 0;  // decoded in a turn
  std::vector<Racer> racers;
  bool interrupted = false;
};

// The options that only the end-to-end part of `evaluate` takes.
void add_race_options(CLI::App& command, RaceOptions& options);

// Opens the model anew for each turn, so that each begins with the same memory.  Errors: of Engine::open();
// kUsage when the text is too short.  Shows a bar.
Result<RaceResult> race_predictors(const RaceOptions& options);

std::string race_table(const RaceResult& result);
std::string race_json(const RaceResult& result);

}  // namespace odmoe::cli
