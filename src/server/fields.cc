#include "server/fields.h"

#include <cmath>

namespace odmoe::server {

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
  // A number with a fraction is no count; 5.0 is one that some languages write so.
  const double number = json->is_number() ? json->get<double>() : NAN;
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) ||
      std::floor(number) != number) {
    return bad_request(path(key), "{} must be a whole number from {} to {}", path(key), min, max);
  }
  value = static_cast<int32_t>(number);
  return {};
}

}  // namespace odmoe::server
