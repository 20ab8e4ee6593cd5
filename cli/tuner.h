// The search for the settings that are fastest on a machine: one setting after the other, and a change is
// kept only when it was faster each of the two times that it was tried.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "odmoe/result.h"

namespace odmoe::cli {

enum class TunedSetting { kThreads, kLookahead, kMemory, kChunk };
inline constexpr std::array kAllTunedSettings = {TunedSetting::kThreads, TunedSetting::kLookahead,
                                                 TunedSetting::kMemory, TunedSetting::kChunk};
std::string_view tuned_setting_name(TunedSetting setting);  // the option's, without dashes

// What a tuner chooses, as EngineOptions names it.
struct Tuning {
  int32_t threads = 0;
  int32_t lookahead = 0;
  uint64_t memory_bytes = 0;  // the budget; 0: what it is without a tuner
  int32_t chunk = 0;          // alone of these it may change last bits
  int64_t value(TunedSetting setting) const;
  Tuning with(TunedSetting setting, int64_t value) const;
  bool operator==(const Tuning&) const = default;
};

// Tokens a second.
struct MeasuredSpeed {
  double prefill = 0, decode = 0;
};

// What is made short: the time that a prompt and its answer take.
struct TurnLengths {
  int32_t prompt_tokens = 0, answer_tokens = 0;
  double seconds(const MeasuredSpeed& speed) const;
};

// Values of one setting, tried in this order beside the one that it has.
struct TunedValues {
  TunedSetting setting;
  std::vector<int64_t> values;
};

// What became of one value.
struct Trial {
  enum class Outcome {
    kBefore,  // the value that the setting had
    kKept,    // faster, twice
    kNotFaster,
    kFasterOnce,  // and not when it was tried again
    kNoTime,      // another measurement would have gone beyond the limit
    kRefused,     // the engine does not open with it
  };
  TunedSetting setting;
  int64_t value = 0;
  Outcome outcome = Outcome::kNotFaster;
  std::vector<MeasuredSpeed> runs;
  std::string refusal;  // of kRefused
};

struct TuningResult {
  Tuning best;
  std::vector<Trial> trials;  // in the order of the values given; for each setting the value it had first
};

// Measures with `tuning` what has to do with `setting`.  kBudget, kUsage and kUnsupported mean that it cannot
// be; other errors end the search.
using MeasureTuning = std::function<Result<MeasuredSpeed>(const Tuning& tuning, TunedSetting setting)>;
// Told before each measurement.
using TuningProgress = std::function<void(TunedSetting setting, int64_t value, int64_t elapsed_us)>;

// A gain below this is taken for noise.
inline constexpr double kLeastGain = 0.03;

// Begins no measurement that would, taking as long as the longest so far, end more than `limit_us` after the
// start; but the first is always made.
// Errors: those of `measure` that end the search.
Result<TuningResult> search_tuning(const Tuning& first, std::span<const TunedValues> values,
                                   const TurnLengths& turn, int64_t limit_us, const Clock& clock,
                                   const MeasureTuning& measure, const TuningProgress& progress = {});

}  // namespace odmoe::cli
