// What `odmoe tune` tried, as people and programs read it.
#pragma once

#include <filesystem>
#include <string>

#include "cli/tuner.h"

namespace odmoe::cli {

// "1.50 GiB", "2"; 0 is what an option without a value means.
std::string setting_value_text(TunedSetting setting, int64_t value);

std::string tuning_report(const TuningResult& result, const Tuning& first, const TurnLengths& turn,
                          const std::filesystem::path& model);
std::string tuning_json(const TuningResult& result, const Tuning& first, const TurnLengths& turn);

}  // namespace odmoe::cli
