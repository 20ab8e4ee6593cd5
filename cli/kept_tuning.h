// What `odmoe tune` found fastest for a model on this machine, kept for `run` and `serve`.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/inference_options.h"
#include "cli/tuner.h"

namespace odmoe::cli {

// Whether the user gave it.
bool is_given(const GivenSettings& given, TunedSetting setting);

// "--threads 1 --chunk 1024"; of `settings` those that differ from `before`.
std::string tuning_text(const Tuning& tuning, const Tuning& before);

// As `options` has them; a budget that is not in bytes is 0.
Tuning tuning_of(const EngineOptions& options);
void set_tuning(EngineOptions& options, const Tuning& tuning);

// The name under which it is kept what holds for the model that `path` leads to, as it is now, on this
// machine, by this version of the program.  kNotFound, kIo.
Result<std::string> tuning_key(const std::filesystem::path& path);
// Nothing when there is none in `file`, or it makes no sense.
std::optional<Tuning> load_tuning(const std::filesystem::path& file, const std::string& key);
// kIo when it cannot be written.
Status save_tuning(const std::filesystem::path& file, const std::string& key, const Tuning& tuning);
Status forget_tuning(const std::filesystem::path& file, const std::string& key);

// Gives those of `options` that are not given the values kept in `file`, if there are any; an empty `file`
// has none.  What was set, for people ("--threads 1"); empty: nothing.
std::string use_kept_tuning(const std::filesystem::path& file, const GivenSettings& given,
                            EngineOptions& options);
// The same, said with --verbose.
void use_kept_tuning(InferenceOptions& options);

}  // namespace odmoe::cli
