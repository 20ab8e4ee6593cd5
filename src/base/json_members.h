// Reads the members of JSON objects that others wrote: each is checked for its type and its bounds, and what
// is wrong becomes an error of the caller's, in the caller's words.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "odmoe/format.h"

namespace odmoe {

// An integer that 64 bits hold; nothing for any other value.
template <typename Json>
std::optional<int64_t> json_integer(const Json& json) {
  if (json.is_number_unsigned()) {
    const auto number = json.template get<uint64_t>();
    if (!std::in_range<int64_t>(number)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (json.is_number_integer()) return json.template get<int64_t>();
  return std::nullopt;
}

// The same, or a number without a fraction, as languages write integers that know no other numbers: up to
// 2^53, beyond which a double does not tell them apart.
template <typename Json>
std::optional<int64_t> json_whole_number(const Json& json) {
  if (!json.is_number_float()) return json_integer(json);
  constexpr double kMost = 9007199254740992;  // 2^53
  const auto number = json.template get<double>();
  if (!(std::abs(number) <= kMost) || std::floor(number) != number) return std::nullopt;
  return static_cast<int64_t>(number);
}

// A view of one object, which must outlive it.
//
// `Words` says how the caller reads and tells what is wrong; it is copied:
//   using Error = ...;
//   static constexpr bool kNullIsMissing;     // a member that is null is as good as none
//   static constexpr bool kFloatsAreNumbers;  // 5.0 is 5
//   static constexpr size_t kMaxTextBytes;    // of a string; std::string::npos: as many as there are
//   Error missing(std::string_view key) const;
//   Error wrong(std::string_view key, std::string_view wanted, const Json& found) const;  // wanted: "a
//   string"
template <typename Json, typename Words>
class JsonMembers {
 public:
  using Error = typename Words::Error;
  template <typename T>
  using Read = std::expected<T, Error>;

  explicit JsonMembers(const Json& object, Words words = {}) : object_(&object), words_(std::move(words)) {}

  const Words& words() const { return words_; }
  // Null: missing, also where the whole is not an object.
  const Json* find(std::string_view key) const {
    const auto found = object_->find(key);
    const bool missing = found == object_->end() || (Words::kNullIsMissing && found->is_null());
    return missing ? nullptr : &*found;
  }
  bool has(std::string_view key) const { return find(key) != nullptr; }

  // An error where it is missing, of another type, or out of bounds.
  Read<int64_t> integer(std::string_view key, int64_t least, int64_t most) const {
    const auto value = [&](const Json& json) -> std::optional<int64_t> {
      const auto number = Words::kFloatsAreNumbers ? json_whole_number(json) : json_integer(json);
      return number && *number >= least && *number <= most ? number : std::nullopt;
    };
    return read(key, value, [&] { return odmoe::format("a whole number from {} to {}", least, most); });
  }
  Read<double> number(std::string_view key, double least, double most) const {
    const auto value = [&](const Json& json) { return finite(json, least, most); };
    return read(key, value, [&] { return odmoe::format("a number from {} to {}", least, most); });
  }
  Read<double> number(std::string_view key) const {  // that a float can hold
    constexpr double kMost = std::numeric_limits<float>::max();
    const auto value = [&](const Json& json) { return finite(json, -kMost, kMost); };
    return read(key, value, [] { return std::string("a number"); });
  }
  Read<bool> boolean(std::string_view key) const {
    const auto value = [](const Json& json) {
      return json.is_boolean() ? std::optional(json.template get<bool>()) : std::nullopt;
    };
    return read(key, value, [] { return std::string("true or false"); });
  }
  Read<std::string> text(std::string_view key) const {
    const size_t most = Words::kMaxTextBytes;
    const auto value = [&](const Json& json) -> std::optional<std::string> {
      if (!json.is_string()) return std::nullopt;
      const auto& text = json.template get_ref<const std::string&>();
      return text.size() <= most ? std::optional(text) : std::nullopt;
    };
    return read(key, value, [&] { return limited("a string", most, "bytes"); });
  }
  // Of `most` members at most.
  Read<const Json*> array(std::string_view key, size_t most) const {
    return structured(key, &Json::is_array, "an array", most);
  }
  Read<const Json*> object(std::string_view key, size_t most) const {
    return structured(key, &Json::is_object, "an object", most);
  }

 private:
  static std::optional<double> finite(const Json& json, double least, double most) {
    if (!json.is_number()) return std::nullopt;
    const auto number = json.template get<double>();
    return number >= least && number <= most ? std::optional(number) : std::nullopt;
  }
  Read<const Json*> structured(std::string_view key, bool (Json::*is)() const noexcept, const char* what,
                               size_t most) const {
    const auto value = [&](const Json& json) {
      return (json.*is)() && json.size() <= most ? std::optional(&json) : std::nullopt;
    };
    return read(key, value, [&] { return limited(what, most, "members"); });
  }
  static std::string limited(std::string_view what, size_t most, std::string_view of) {
    if (most == std::string::npos) return std::string(what);
    return odmoe::format("{} of at most {} {}", what, most, of);
  }
  template <typename Value, typename Wanted>
  auto read(std::string_view key, const Value& value, const Wanted& wanted) const
      -> Read<typename decltype(value(std::declval<const Json&>()))::value_type> {
    const Json* json = find(key);
    if (json == nullptr) return std::unexpected(words_.missing(key));
    if (auto good = value(*json)) return *std::move(good);
    return std::unexpected(words_.wrong(key, wanted(), *json));
  }

  const Json* object_;
  Words words_;
};

// Reads one member after the other into variables, which keep their values once something is wrong; only the
// first error is kept.  Every member must be there.
template <typename Json, typename Words>
class FirstErrorMembers {
 public:
  using Error = typename Words::Error;

  explicit FirstErrorMembers(const Json& object, Words words = {}) : members_(object, std::move(words)) {}

  // For members that came later than files that there are.
  bool has(std::string_view key) const { return members_.has(key); }
  template <typename Int>
  void get(std::string_view key, Int& value, int64_t least, int64_t most) {
    if (status.has_value()) take(members_.integer(key, least, most), value);
  }
  void get(std::string_view key, std::string& value) {
    if (status.has_value()) take(members_.text(key), value);
  }
  void get(std::string_view key, bool& value) {
    if (status.has_value()) take(members_.boolean(key), value);
  }
  void get(std::string_view key, float& value) {
    if (status.has_value()) take(members_.number(key), value);
  }
  // Null after an error.
  const Json* array(std::string_view key, size_t most = std::string::npos) {
    const Json* found = nullptr;
    if (status.has_value()) take(members_.array(key, most), found);
    return found;
  }
  const Json* object(std::string_view key, size_t most = std::string::npos) {
    const Json* found = nullptr;
    if (status.has_value()) take(members_.object(key, most), found);
    return found;
  }
  // For what the caller finds wrong itself with a member that is there.
  void wrong(std::string_view key, std::string_view wanted) {
    if (!status.has_value()) return;
    status = std::unexpected(members_.words().wrong(key, wanted, *members_.find(key)));
  }

  std::expected<void, Error> status;

 private:
  template <typename Read, typename T>
  void take(Read read, T& value) {
    if (read.has_value()) {
      value = static_cast<T>(*std::move(read));
    } else {
      status = std::unexpected(std::move(read).error());
    }
  }

  JsonMembers<Json, Words> members_;
};

}  // namespace odmoe
