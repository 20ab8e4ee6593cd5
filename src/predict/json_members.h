// Reading JSON that others may have written.
#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "odmoe/format.h"
#include "odmoe/result.h"

namespace odmoe {

using Json = nlohmann::ordered_json;

inline constexpr size_t kMaxJsonText = 4096;
inline constexpr int64_t kMaxJsonInteger = int64_t{1} << 62U;

// Reads members of an object and keeps the first error.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(&object), where_(std::move(where)) {}

  template <typename Int>
  void get(std::string_view key, Int& value, int64_t least, int64_t most) {
    const Json* member = find(key);
    if (member == nullptr) return;
    const bool fits = member->is_number_unsigned() ? member->get<uint64_t>() <= static_cast<uint64_t>(most)
                                                   : member->is_number_integer();
    if (!fits || member->get<int64_t>() < least || member->get<int64_t>() > most) {
      return wrong(key, odmoe::format("an integer from {} to {}", least, most));
    }
    value = static_cast<Int>(member->get<int64_t>());
  }
  void get(std::string_view key, std::string& value) {
    const Json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_string() || member->get_ref<const std::string&>().size() > kMaxJsonText) {
      return wrong(key, odmoe::format("text of at most {} bytes", kMaxJsonText));
    }
    value = member->get<std::string>();
  }
  void get(std::string_view key, bool& value) {
    const Json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_boolean()) return wrong(key, "true or false");
    value = member->get<bool>();
  }
  void get(std::string_view key, float& value) {
    const Json* member = find(key);
    if (member == nullptr) return;
    if (!member->is_number() || !std::isfinite(member->get<float>())) return wrong(key, "a number");
    value = member->get<float>();
  }
  // An array or object; null after an error.
  const Json* get(std::string_view key, Json::value_t type, size_t most) {
    const Json* member = find(key);
    if (member == nullptr) return nullptr;
    if (member->type() != type || member->size() > most) {
      wrong(key, odmoe::format("an {} of at most {} members",
                               type == Json::value_t::array ? "array" : "object", most));
      return nullptr;
    }
    return member;
  }
  void wrong(std::string_view key, std::string_view wanted) {
    if (status.has_value()) status = fail(ErrorKind::kBadFile, "{}: '{}' is not {}", where_, key, wanted);
  }

  Status status;

 private:
  const Json* find(std::string_view key) {
    if (!status.has_value()) return nullptr;
    const auto member = object_->is_object() ? object_->find(key) : object_->end();
    if (member == object_->end()) {
      status = fail(ErrorKind::kBadFile, "{} has no '{}'", where_, key);
      return nullptr;
    }
    return &*member;
  }
  const Json* object_;
  std::string where_;
};

}  // namespace odmoe
