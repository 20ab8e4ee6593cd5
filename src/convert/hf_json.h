// The JSON files of a checkpoint, read with limits and looked up with errors that name file and key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_members.h"
#include "odmoe/result.h"

namespace odmoe {

inline constexpr uint64_t kMaxConfigBytes = 4U << 20U;      // the longest with per-layer overrides has 100 KB
inline constexpr uint64_t kMaxTokenizerBytes = 64U << 20U;  // the largest known has 33 MB

inline constexpr int kMaxJsonDepth = 64;

// A whole file as text.  Errors: those of read_whole_text(); kBadFile for a Git LFS pointer.
Result<std::string> read_text_file(const std::filesystem::path& path, uint64_t most_bytes);

// Parses a JSON object.  `name` is what errors call it.  Error: kBadFile.
Result<nlohmann::json> parse_json_object(std::string_view text, const std::string& name);

// read_text_file() and parse_json_object(); nothing when there is no such file.
Result<std::optional<nlohmann::json>> read_optional_json(const std::filesystem::path& path,
                                                         uint64_t most_bytes);

// What is wrong is kBadFile, and names the file, the key and what is there.
struct HfWords {
  using Error = odmoe::Error;
  static constexpr bool kNullIsMissing = true, kFloatsAreNumbers = false;
  static constexpr size_t kMaxTextBytes = std::string::npos;
  Error missing(std::string_view key) const;
  Error wrong(std::string_view key, std::string_view wanted, const nlohmann::json& found) const;

  std::string_view name;
};

// Typed look-ups in one JSON object, which it keeps: configurations are merged and handed on.  Copies share
// nothing with what they were made from.  Immutable.
class HfConfig {
 public:
  HfConfig(nlohmann::json object, std::string name) : object_(std::move(object)), name_(std::move(name)) {}

  const nlohmann::json& json() const { return object_; }
  const std::string& name() const { return name_; }

  // Present and not null.
  bool has(std::string_view key) const { return find(key) != nullptr; }
  const nlohmann::json* find(std::string_view key) const { return members().find(key); }

  // Errors: kBadFile when absent (without an `otherwise`), of another type or outside the limits.
  Result<int64_t> integer(std::string_view key, int64_t least, int64_t most) const;
  Result<int64_t> integer_or(std::string_view key, int64_t otherwise, int64_t least, int64_t most) const;
  Result<double> number(std::string_view key) const;
  Result<double> number_or(std::string_view key, double otherwise) const;
  Result<bool> boolean_or(std::string_view key, bool otherwise) const;
  Result<std::string> string_or(std::string_view key, std::string_view otherwise) const;
  // An object in this one, or nothing.
  Result<std::optional<HfConfig>> object_or_none(std::string_view key) const;

 private:
  JsonMembers<nlohmann::json, HfWords> members() const {
    return JsonMembers<nlohmann::json, HfWords>(object_, {.name = name_});
  }

  nlohmann::json object_;
  std::string name_;
};

}  // namespace odmoe
