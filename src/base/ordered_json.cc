#include "base/ordered_json.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "odmoe/format.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

// Objects of more keys than this have an index of them; in smaller ones looking is faster.
constexpr size_t kKeysWithoutIndex = 16;
// So much memory is asked for at once.
constexpr size_t kStepBytes = 16 * 1024;

// Builds the value from what nlohmann's parser finds.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(const JsonLimits& limits, Json& root) : limits_(&limits), root_(&root) {}

  bool null() override { return count(0) && put(nullptr) != nullptr; }
  bool boolean(bool value) override { return count(0) && put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return count(0) && put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return count(0) && put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return count(0) && put(value) != nullptr;
  }
  bool string(string_t& value) override {
    return count(kJsonContainerBytes + value.size()) && put(value) != nullptr;
  }
  bool binary(binary_t&) override { return false; }  // JSON has none

  bool start_object(size_t) override { return start(Json::object()); }
  bool start_array(size_t) override { return start(Json::array()); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool end_object() override { return end_array(); }

  bool key(string_t& name) override {
    if (!count(kJsonKeyBytes + name.size())) return false;
    Open& open = open_.back();
    // The vector itself: the map's own emplace() looks through all keys.
    Json::object_t::Container& members = open.value->get_ref<Json::object_t&>();
    const auto place_of = [&]() -> size_t {
      if (members.size() <= kKeysWithoutIndex) {
        const auto same =
            std::ranges::find(members, name, [](const auto& member) -> const auto& { return member.first; });
        return static_cast<size_t>(same - members.begin());
      }
      if (open.places.empty()) {
        for (size_t i = 0; i < members.size(); ++i) open.places.emplace(hash(members[i].first), i);
      }
      const auto [begin, end] = open.places.equal_range(hash(name));
      for (auto place = begin; place != end; ++place) {
        if (members[place->second].first == name) return place->second;
      }
      return members.size();
    };
    const size_t place = place_of();
    if (place == members.size()) {
      if (place == limits_->keys) return fail(JsonError::Kind::kKeys, "");
      if (!open.places.empty()) open.places.emplace(hash(name), place);
      members.emplace_back(name, Json());
    }
    member_ = &members[place].second;
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    // Its text ends in a quotation of what was read; where it is wrong is in the beginning.
    constexpr size_t kMostBytes = 200;
    std::string what = std::string(error.what()).substr(0, kMostBytes);
    const size_t at = what.find("parse error");
    if (at != std::string::npos) what.erase(0, at);
    return fail(JsonError::Kind::kSyntax, what.substr(0, what.find(" - ")));
  }

  // What is counted and was not asked for yet.
  bool settle() {
    const size_t bytes = std::exchange(untold_, 0);
    return !limits_->take || limits_->take(bytes) || fail(JsonError::Kind::kEnded, "");
  }
  JsonError& error() { return error_; }

 private:
  struct Open {
    Json* value = nullptr;
    std::unordered_multimap<size_t, size_t> places = {};  // of the members, by the hashes of their keys
  };
  static size_t hash(const std::string& key) { return std::hash<std::string>()(key); }

  bool fail(JsonError::Kind kind, std::string message) {
    error_ = {.kind = kind, .message = std::move(message)};
    return false;
  }

  // One more value, with so much beside its place.
  bool count(size_t bytes) {
    bytes += kJsonValueBytes;
    bytes_ += bytes;
    untold_ += bytes;
    if (bytes_ > limits_->bytes) return fail(JsonError::Kind::kBytes, "");
    return untold_ < kStepBytes || settle();
  }

  template <typename Value>
  Json* put(Value&& value) {
    Json* place = root_;
    if (!open_.empty() && open_.back().value->is_object()) {
      place = member_;
    } else if (!open_.empty()) {
      return &open_.back().value->get_ref<Json::array_t&>().emplace_back(std::forward<Value>(value));
    }
    *place = Json(std::forward<Value>(value));
    return place;
  }

  bool start(Json value) {
    if (!count(kJsonContainerBytes)) return false;
    if (open_.size() == limits_->depth)
      return fail(JsonError::Kind::kDepth,
                  odmoe::format("it is nested more than {} levels deep", limits_->depth));
    Json* const place = put(std::move(value));
    open_.push_back({.value = place});
    return true;
  }

  const JsonLimits* limits_;
  Json* root_;
  std::vector<Open> open_;
  Json* member_ = nullptr;  // where the value of the key that was read goes
  size_t bytes_ = 0, untold_ = 0;
  JsonError error_;
};

// Where a number is that is longer than may be; npos: nowhere.
size_t find_long_number(std::string_view text) {
  size_t n_digit = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
      continue;
    }
    in_string = c == '"';
    const bool is_number = (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
    n_digit = is_number ? n_digit + 1 : 0;
    if (n_digit > kMaxJsonNumberBytes) return i + 1 - n_digit;
  }
  return std::string_view::npos;
}

}  // namespace

std::expected<Json, JsonError> read_ordered_json(std::string_view text, const JsonLimits& limits) {
  if (const size_t at = find_long_number(text); at != std::string_view::npos) {
    return std::unexpected(JsonError{
        .message = odmoe::format("the number at byte {} is longer than {}", at, kMaxJsonNumberBytes)});
  }
  Json root;
  Builder builder(limits, root);
  if (!Json::sax_parse(text, &builder) || !builder.settle())
    return std::unexpected(std::move(builder.error()));
  return root;
}

size_t longest_json_string(std::string_view text) {
  size_t longest = 0;
  while (true) {
    const size_t begin = text.find('"');
    if (begin == std::string_view::npos) return longest;
    text.remove_prefix(begin + 1);
    size_t end = 0;
    for (end = text.find_first_of("\"\\"); end < text.size() && text[end] == '\\';) {
      end = end + 2 < text.size() ? text.find_first_of("\"\\", end + 2) : text.size();
    }
    end = std::min(end, text.size());
    longest = std::max(longest, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace odmoe
