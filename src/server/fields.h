// Reads the fields of one JSON object, each with the error that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "server/api_error.h"
#include "server/json_guard.h"

namespace odmoe::server {

// An integer, or a number without a fraction, as languages write them that know no other numbers; nothing
// when it is neither, or beyond what 64 bits (a double: 53) tell apart.
std::optional<int64_t> whole_number(const Json& json);

// A view of the object, which must outlive it.  A field that is null counts as missing, as in OpenAI's API,
// and what is missing leaves `value` as it is.
class Fields {
 public:
  // `prefix`: where the object stands, "messages[0]." say.
  explicit Fields(const Json& json, std::string prefix = "") : json_(&json), prefix_(std::move(prefix)) {}

  const Json* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }
  std::string path(std::string_view key) const { return prefix_ + std::string(key); }

  ApiStatus read(const std::string& key, bool& value) const;
  ApiStatus read(const std::string& key, std::string& value) const;
  ApiStatus read(const std::string& key, float& value, double min, double max) const;
  ApiStatus read(const std::string& key, int32_t& value, int64_t min, int64_t max) const;

 private:
  const Json* json_;
  std::string prefix_;
};

}  // namespace odmoe::server
