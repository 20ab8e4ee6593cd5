#include "cli/kept_tuning.h"

#include <utility>

#include "base/memory_info.h"
#include "base/processors.h"
#include "cli/output.h"
#include "io/file_stamp.h"
#include "io/kept_file.h"
#include "odmoe/engine.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

KeptFile kept(const std::filesystem::path& file) { return {file, "tunings", "what suits the model here"}; }

std::string member(TunedSetting setting) { return std::string(tuned_setting_name(setting)); }

}  // namespace

bool is_given(const GivenSettings& given, TunedSetting setting) {
  switch (setting) {
    case TunedSetting::kThreads:
      return given.threads;
    case TunedSetting::kLookahead:
      return given.lookahead;
    case TunedSetting::kMemory:
      return given.memory;
    case TunedSetting::kChunk:
      return given.chunk;
  }
  std::unreachable();
}

std::string tuning_text(const Tuning& tuning, const Tuning& before) {
  std::string text;
  for (const TunedSetting setting : kAllTunedSettings) {
    const int64_t value = tuning.value(setting);
    if (value == before.value(setting)) continue;
    const bool bytes = setting == TunedSetting::kMemory;
    text += odmoe::format("{}--{} {}", text.empty() ? "" : " ", tuned_setting_name(setting),
                          bytes ? odmoe::format("{}MiB", value >> 20) : std::to_string(value));
  }
  return text;
}

Tuning tuning_of(const EngineOptions& options) {
  return {.threads = options.threads,
          .lookahead = options.lookahead,
          .memory_bytes = options.memory.kind == MemoryBudget::Kind::kBytes ? options.memory.bytes : 0,
          .chunk = options.chunk};
}

void set_tuning(EngineOptions& options, const Tuning& tuning) {
  options.threads = tuning.threads;
  options.lookahead = tuning.lookahead;
  options.chunk = tuning.chunk;
  if (tuning.memory_bytes > 0) {
    options.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = tuning.memory_bytes};
  }
}

Result<std::string> tuning_key(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::canonical(path, error);
  if (error) return fail(ErrorKind::kNotFound, "no model {}: {}", path.string(), error.message());
  ODMOE_ASSIGN_OR_RETURN(const FileStamp stamp, stamp_of(whole));
  return odmoe::format("{} ({}), {} processors, odmoe {}", whole.string(), stamp.text(), usable_processors(),
                       ODMOE_VERSION);
}

std::optional<Tuning> load_tuning(const std::filesystem::path& file, const std::string& key) {
  const auto entry = kept(file).load(key);
  if (!entry) return std::nullopt;
  Tuning tuning;
  for (const TunedSetting setting : kAllTunedSettings) {
    const auto value = kept_number(*entry, member(setting).c_str(), 0, 1e15);
    if (!value) return std::nullopt;
    tuning = tuning.with(setting, static_cast<int64_t>(*value));
  }
  return tuning;
}

Status save_tuning(const std::filesystem::path& file, const std::string& key, const Tuning& tuning) {
  nlohmann::ordered_json entry;
  for (const TunedSetting setting : kAllTunedSettings) entry[member(setting)] = tuning.value(setting);
  return kept(file).save(key, std::move(entry));
}

Status forget_tuning(const std::filesystem::path& file, const std::string& key) {
  return load_tuning(file, key) ? kept(file).save(key, nlohmann::ordered_json::object()) : Status();
}

std::string use_kept_tuning(const std::filesystem::path& file, const GivenSettings& given,
                            EngineOptions& options) {
  if (file.empty()) return {};
  const auto key = tuning_key(options.model);
  if (!key.has_value()) return {};  // opening the model says why
  const auto kept = load_tuning(file, *key);
  if (!kept) return {};
  const Tuning before = tuning_of(options);
  Tuning tuning = before;
  for (const TunedSetting setting : kAllTunedSettings) {
    if (!is_given(given, setting)) tuning = tuning.with(setting, kept->value(setting));
  }
  // Others have taken memory since: what is there now decides.
  if (!given.memory && tuning.memory_bytes > available_bytes()) tuning.memory_bytes = 0;
  const EngineOptions untouched = options;
  set_tuning(options, tuning);
  // With this context and these sessions, which may be others than those that were tuned for.
  const auto fits = [&] {
    const auto plan = Engine::memory_plan(options);
    return plan.has_value() || plan.error().kind != ErrorKind::kBudget;
  };
  if (options.validate().has_value() && fits()) return tuning_text(tuning, before);
  options = untouched;
  return {};
}

void use_kept_tuning(InferenceOptions& options) {
  const std::string set = use_kept_tuning(options.tuning_file, options.given, options.engine);
  if (!set.empty() && options.verbose) {
    (void)Output::standard_error().write(odmoe::format("as odmoe tune found: {}\n", set));
  }
}

}  // namespace odmoe::cli
