#include "cli/tuning_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/units.h"
#include "cli/kept_tuning.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct OutcomeWords {
  std::string_view text, json;
};

OutcomeWords words(Trial::Outcome outcome) {
  switch (outcome) {
    case Trial::Outcome::kBefore:
      return {"before", "before"};
    case Trial::Outcome::kKept:
      return {"faster, kept", "kept"};
    case Trial::Outcome::kNotFaster:
      return {"not faster", "not_faster"};
    case Trial::Outcome::kFasterOnce:
      return {"faster once only", "faster_once"};
    case Trial::Outcome::kNoTime:
      return {"no time left", "no_time"};
    case Trial::Outcome::kRefused:
      return {"refused", "refused"};
  }
  std::unreachable();
}

MeasuredSpeed mean(const Trial& trial) {
  MeasuredSpeed sum;
  for (const MeasuredSpeed& run : trial.runs) {
    sum.prefill += run.prefill;
    sum.decode += run.decode;
  }
  const auto n = static_cast<double>(trial.runs.size());
  return {.prefill = sum.prefill / n, .decode = sum.decode / n};
}

}  // namespace

std::string setting_value_text(TunedSetting setting, int64_t value) {
  if (setting == TunedSetting::kThreads && value == 0) return "all";
  if (setting != TunedSetting::kMemory) return std::to_string(value);
  return value == 0 ? "as given" : format_bytes(static_cast<uint64_t>(value));
}

std::string tuning_report(const TuningResult& result, const Tuning& first, const TurnLengths& turn,
                          const std::filesystem::path& model) {
  std::string text = odmoe::format("{:<10} {:>10} {:>13} {:>13} {:>10}  {}\n", "setting", "value",
                                   "prompt tok/s", "answer tok/s", "turn, s", "");
  for (const Trial& trial : result.trials) {
    const std::string value = setting_value_text(trial.setting, trial.value);
    std::string why(words(trial.outcome).text);
    if (!trial.refusal.empty()) why += ": " + trial.refusal;
    if (trial.runs.empty()) {
      text +=
          odmoe::format("{:<10} {:>10} {:>13} {:>13} {:>10}  {}\n", tuned_setting_name(trial.setting), value,
                        "-", "-", "-", trial.outcome == Trial::Outcome::kBefore ? "no time left" : why);
      continue;
    }
    const MeasuredSpeed speed = mean(trial);
    text +=
        odmoe::format("{:<10} {:>10} {:>13.2f} {:>13.2f} {:>10.1f}  {}\n", tuned_setting_name(trial.setting),
                      value, speed.prefill, speed.decode, turn.seconds(speed), why);
  }
  const std::string kept = tuning_text(result.best, first);
  text += odmoe::format("\nA turn is a prompt of {} tokens and an answer of {}, from an empty arena.\n",
                        turn.prompt_tokens, turn.answer_tokens);
  if (kept.empty())
    return text + odmoe::format("Nothing was faster than what holds already for {}.\n", model.string());
  text += odmoe::format("Kept for {}: {}.  run and serve use it.\n", model.string(), kept);
  if (result.best.chunk != first.chunk) {
    text += "Another --chunk may change last bits, and so an answer; --chunk N gives those of N.\n";
  }
  return text;
}

std::string tuning_json(const TuningResult& result, const Tuning& first, const TurnLengths& turn) {
  nlohmann::ordered_json json{{"prompt_tokens", turn.prompt_tokens}, {"answer_tokens", turn.answer_tokens}};
  const auto object = [](const Tuning& tuning) {
    return nlohmann::ordered_json{{"threads", tuning.threads},
                                  {"lookahead", tuning.lookahead},
                                  {"memory_bytes", tuning.memory_bytes},
                                  {"chunk", tuning.chunk}};
  };
  json["before"] = object(first);
  json["kept"] = object(result.best);
  json["trials"] = nlohmann::ordered_json::array();
  for (const Trial& trial : result.trials) {
    nlohmann::ordered_json runs = nlohmann::ordered_json::array();
    for (const MeasuredSpeed& run : trial.runs) {
      runs.push_back({{"prefill_tokens_per_second", run.prefill},
                      {"decode_tokens_per_second", run.decode},
                      {"turn_seconds", turn.seconds(run)}});
    }
    json["trials"].push_back({{"setting", tuned_setting_name(trial.setting)},
                              {"value", trial.value},
                              {"outcome", words(trial.outcome).json},
                              {"runs", std::move(runs)}});
    if (!trial.refusal.empty()) json["trials"].back()["refusal"] = trial.refusal;
  }
  return json.dump(2) + "\n";
}

}  // namespace odmoe::cli
