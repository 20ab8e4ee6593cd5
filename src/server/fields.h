// Reads the fields of one JSON object, each with the error that names it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/json_members.h"
#include "server/api_error.h"
#include "server/json_guard.h"

namespace odmoe::server {

// What is wrong is 400.  A field that is null counts as missing, as in OpenAI's API, and 5.0 is 5.
struct FieldWords {
  using Error = ApiError;
  static constexpr bool kNullIsMissing = true, kFloatsAreNumbers = true;
  static constexpr size_t kMaxTextBytes = std::string::npos;

  std::string path(std::string_view key) const { return prefix + std::string(key); }
  ApiError missing(std::string_view key) const {
    return bad_request(path(key), "{} is missing", path(key)).error();
  }
  ApiError wrong(std::string_view key, std::string_view wanted, const Json& /*found*/) const {
    return bad_request(path(key), "{} must be {}", path(key), wanted).error();
  }

  std::string prefix;
};

// A view of the object, which must outlive it.
class Fields : public JsonMembers<Json, FieldWords> {
 public:
  // `prefix`: where the object stands, "messages[0]." say.
  explicit Fields(const Json& json, std::string prefix = "") : JsonMembers(json, {std::move(prefix)}) {}

  std::string path(std::string_view key) const { return words().path(key); }

  // What is missing leaves `value` as it is.
  ApiStatus read(std::string_view key, bool& value) const {
    return has(key) ? take(boolean(key), value) : ApiStatus();
  }
  ApiStatus read(std::string_view key, std::string& value) const {
    return has(key) ? take(text(key), value) : ApiStatus();
  }
  ApiStatus read(std::string_view key, float& value, double min, double max) const {
    return has(key) ? take(number(key, min, max), value) : ApiStatus();
  }
  ApiStatus read(std::string_view key, int32_t& value, int64_t min, int64_t max) const {
    return has(key) ? take(integer(key, min, max), value) : ApiStatus();
  }

 private:
  template <typename From, typename To>
  static ApiStatus take(ApiResult<From> read, To& value) {
    if (!read.has_value()) return std::unexpected(std::move(read).error());
    value = static_cast<To>(*std::move(read));
    return {};
  }
};

}  // namespace odmoe::server
