#include "server/fields.h"

#include <cmath>
#include <utility>

namespace odmoe::server {

std::optional<int64_t> whole_number(const Json& json) {
  if (json.is_number_unsigned()) {
    const auto number = json.get<uint64_t>();
    if (!std::in_range<int64_t>(number)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (json.is_number_integer()) return json.get<int64_t>();
  constexpr double kMost = 9007199254740992;  // 2^53
  const double number = json.is_number() ? json.get<double>() : NAN;
  if (!(std::abs(number) <= kMost) || std::floor(number) != number) return std::nullopt;
  return static_cast<int64_t>(number);
}

const Json* Fields::find(const std::string& key) const {
  const auto found = json_->find(key);
  return found == json_->end() || found->is_null() ? nullptr : &*found;
}

ApiStatus Fields::read(const std::string& key, bool& value) const {
  const Json* json = find(key);
  if (json == nullptr) return {};
  if (!json->is_boolean()) return bad_request(path(key), "{} must be true or false", path(key));
  value = json->get<bool>();
  return {};
}

ApiStatus Fields::read(const std::string& key, std::string& value) const {
  const Json* json = find(key);
  if (json == nullptr) return {};
  if (!json->is_string()) return bad_request(path(key), "{} must be a string", path(key));
  value = json->get<std::string>();
  return {};
}

ApiStatus Fields::read(const std::string& key, float& value, double min, double max) const {
  const Json* json = find(key);
  if (json == nullptr) return {};
  if (!json->is_number() || !(json->get<double>() >= min && json->get<double>() <= max)) {
    return bad_request(path(key), "{} must be a number from {} to {}", path(key), min, max);
  }
  value = static_cast<float>(json->get<double>());
  return {};
}

ApiStatus Fields::read(const std::string& key, int32_t& value, int64_t min, int64_t max) const {
  const Json* json = find(key);
  if (json == nullptr) return {};
  const auto number = whole_number(*json);
  if (!number || *number < min || *number > max) {
    return bad_request(path(key), "{} must be a whole number from {} to {}", path(key), min, max);
  }
  value = static_cast<int32_t>(*number);
  return {};
}

}  // namespace odmoe::server
