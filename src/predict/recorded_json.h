// The JSON of recorded routing and of shadow models, which others may have written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/json_members.h"
#include "odmoe/format.h"
#include "odmoe/result.h"

namespace odmoe {

using Json = nlohmann::ordered_json;

inline constexpr size_t kMaxJsonText = 4096;
inline constexpr int64_t kMaxJsonInteger = int64_t{1} << 62U;

// What is wrong is kBadFile, and begins with where it is.
struct RecordedWords {
  using Error = odmoe::Error;
  static constexpr bool kNullIsMissing = false, kFloatsAreNumbers = false;
  static constexpr size_t kMaxTextBytes = kMaxJsonText;

  Error missing(std::string_view key) const {
    return {ErrorKind::kBadFile, odmoe::format("{} has no '{}'", where, key)};
  }
  Error wrong(std::string_view key, std::string_view wanted, const Json& /*found*/) const {
    return {ErrorKind::kBadFile, odmoe::format("{}: '{}' is not {}", where, key, wanted)};
  }

  std::string where;
};

// Every member must be there; the first error is kept.
class Members : public FirstErrorMembers<Json, RecordedWords> {
 public:
  Members(const Json& object, std::string where) : FirstErrorMembers(object, {std::move(where)}) {}
};

}  // namespace odmoe
