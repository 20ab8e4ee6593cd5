#include "cli/tuner.h"

#include <algorithm>
#include <array>
#include <utility>

namespace odmoe::cli {
namespace {

bool refuses(const Error& error) {
  return error.kind == ErrorKind::kBudget || error.kind == ErrorKind::kUsage ||
         error.kind == ErrorKind::kUnsupported;
}

// The search over one setting's values.
class SettingSearch {
 public:
  struct Limits {
    TurnLengths turn;
    int64_t begin_us = 0, end_us = 0;
  };

  SettingSearch(TunedSetting setting, const Limits& limits, const Clock& clock, const MeasureTuning& measure,
                const TuningProgress& progress, int64_t& longest_us, TuningResult& result)
      : setting_(setting),
        limits_(limits),
        clock_(clock),
        measure_(measure),
        progress_(progress),
        longest_us_(longest_us),
        result_(result) {}

  Status search(std::span<const int64_t> values, bool always_begins) {
    Trial before{
        .setting = setting_, .value = result_.best.value(setting_), .outcome = Trial::Outcome::kBefore};
    const bool begins = always_begins || has_time();
    if (begins) ODMOE_RETURN_IF_ERROR(measure(before));
    result_.trials.push_back(before);
    size_t best = result_.trials.size() - 1;  // the trial whose value the setting has now
    for (const int64_t value : values) {
      if (value == before.value) continue;
      Trial trial{.setting = setting_, .value = value};
      ODMOE_RETURN_IF_ERROR(begins ? compare(result_.trials[best], trial) : out_of_time(trial));
      result_.trials.push_back(trial);
      if (trial.outcome != Trial::Outcome::kKept) continue;
      result_.best = result_.best.with(setting_, value);
      if (best_was_kept(best)) result_.trials[best].outcome = Trial::Outcome::kNotFaster;  // than this one
      best = result_.trials.size() - 1;
    }
    return {};
  }

 private:
  bool best_was_kept(size_t best) const { return result_.trials[best].outcome == Trial::Outcome::kKept; }

  // Whether one more measurement, as long as the longest so far, would end in time.
  bool has_time() const { return clock_.now_us() + longest_us_ <= limits_.end_us; }

  static Status out_of_time(Trial& trial) {
    trial.outcome = Trial::Outcome::kNoTime;
    return {};
  }

  Status measure(Trial& trial) {
    const int64_t begin_us = clock_.now_us();
    if (progress_) progress_(setting_, trial.value, begin_us - limits_.begin_us);
    const auto speed = measure_(result_.best.with(setting_, trial.value), setting_);
    longest_us_ = std::max(longest_us_, clock_.now_us() - begin_us);
    if (!speed.has_value()) return std::unexpected(speed.error());
    trial.runs.push_back(*speed);
    return {};
  }

  double seconds(const Trial& trial, double (*choose)(double, double)) const {
    double chosen = limits_.turn.seconds(trial.runs.front());
    for (const MeasuredSpeed& run : trial.runs) chosen = choose(chosen, limits_.turn.seconds(run));
    return chosen;
  }
  // Each run of `trial` was shorter than every one of `best`, by enough.
  bool is_faster(const Trial& trial, const Trial& best) const {
    const double longest = seconds(trial, [](double a, double b) { return std::max(a, b); });
    const double shortest = seconds(best, [](double a, double b) { return std::min(a, b); });
    return longest < shortest * (1 - kLeastGain);
  }

  Status compare(Trial& best, Trial& trial) {
    if (!has_time()) return out_of_time(trial);
    if (const Status first = measure(trial); !first.has_value()) {
      if (!refuses(first.error())) return first;
      trial.outcome = Trial::Outcome::kRefused;
      trial.refusal = first.error().message;
      return {};
    }
    trial.outcome = Trial::Outcome::kNotFaster;
    if (!is_faster(trial, best)) return {};
    if (!has_time()) return out_of_time(trial);  // faster once is not enough
    ODMOE_RETURN_IF_ERROR(measure(trial));
    if (is_faster(trial, best) && best.runs.size() == 1) {
      if (!has_time()) return out_of_time(trial);
      ODMOE_RETURN_IF_ERROR(measure(best));
    }
    trial.outcome = is_faster(trial, best) ? Trial::Outcome::kKept : Trial::Outcome::kFasterOnce;
    return {};
  }

  TunedSetting setting_;
  Limits limits_;
  const Clock& clock_;
  const MeasureTuning& measure_;
  const TuningProgress& progress_;
  int64_t& longest_us_;  // of the measurements so far
  TuningResult& result_;
};

}  // namespace

std::string_view tuned_setting_name(TunedSetting setting) {
  constexpr std::array<std::string_view, kAllTunedSettings.size()> kNames = {"threads", "lookahead", "memory",
                                                                             "chunk"};
  return kNames[static_cast<size_t>(setting)];
}

int64_t Tuning::value(TunedSetting setting) const {
  switch (setting) {
    case TunedSetting::kThreads:
      return threads;
    case TunedSetting::kLookahead:
      return lookahead;
    case TunedSetting::kMemory:
      return static_cast<int64_t>(memory_bytes);
    case TunedSetting::kChunk:
      return chunk;
  }
  std::unreachable();
}

Tuning Tuning::with(TunedSetting setting, int64_t value) const {
  Tuning changed = *this;
  switch (setting) {
    case TunedSetting::kThreads:
      changed.threads = static_cast<int32_t>(value);
      break;
    case TunedSetting::kLookahead:
      changed.lookahead = static_cast<int32_t>(value);
      break;
    case TunedSetting::kMemory:
      changed.memory_bytes = static_cast<uint64_t>(value);
      break;
    case TunedSetting::kChunk:
      changed.chunk = static_cast<int32_t>(value);
      break;
  }
  return changed;
}

double TurnLengths::seconds(const MeasuredSpeed& speed) const {
  return prompt_tokens / speed.prefill + answer_tokens / speed.decode;
}

Result<TuningResult> search_tuning(const Tuning& first, std::span<const TunedValues> values,
                                   const TurnLengths& turn, int64_t limit_us, const Clock& clock,
                                   const MeasureTuning& measure, const TuningProgress& progress) {
  const int64_t begin_us = clock.now_us();
  TuningResult result{.best = first};
  int64_t longest_us = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    SettingSearch search(values[i].setting,
                         {.turn = turn, .begin_us = begin_us, .end_us = begin_us + limit_us}, clock, measure,
                         progress, longest_us, result);
    ODMOE_RETURN_IF_ERROR(search.search(values[i].values, i == 0));
  }
  return result;
}

}  // namespace odmoe::cli
