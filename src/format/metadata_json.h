// Metadata as JSON: {"KEY": {"type": "u32", "value": 4}, "KEY": {"type": "str", "values": ["a", "b"]}}, types
// by GGUF's names, sorted by key, without loss: floats that are not numbers are "nan", "inf" and "-inf", and
// text that is not UTF-8 is {"hex": "..."}.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata_entry.h"
#include "odmoe/result.h"

namespace odmoe {

nlohmann::ordered_json metadata_to_json(const std::vector<MetadataEntry>& entries);

// `name` is what errors call the file.  kBadFile for anything that metadata_to_json does not write.
Result<std::vector<MetadataEntry>> metadata_from_json(const nlohmann::json& json, const std::string& name);

// Parses foreign JSON with bounds on depth and on the number of values, so that memory stays in proportion to
// what a sound file takes.  (Not ordered_json, whose keys are found by looking at each.)  kBadFile, with the
// place.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& name);

inline constexpr int kMaxJsonDepth = 16;
inline constexpr uint64_t kMaxJsonValues = 4U << 20U;  // a vocabulary of 160 thousand has half a million

}  // namespace odmoe
