#include "model/tokenizer/python_json.h"

#include "base/ordered_json.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;
// What comes in has been bounded by who took it in; this bounds the recursion all the same.
constexpr int kMaxDepth = 256;

std::string scalar(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

void append(const Json& json, int depth, std::string* out) {
  if (!json.is_structured() || depth > kMaxDepth) {
    *out += scalar(json);
    return;
  }
  const bool object = json.is_object();
  *out += object ? '{' : '[';
  bool first = true;
  for (const auto& [key, value] : json.items()) {
    if (!first) *out += ", ";
    first = false;
    if (object) *out += scalar(key) + ": ";
    append(value, depth + 1, out);
  }
  *out += object ? '}' : ']';
}

std::string dump(const Json& json) {
  std::string out;
  append(json, 0, &out);
  return out;
}

// Discarded when it is none.
Json parse(std::string_view text) {
  return read_ordered_json(text, {.depth = kMaxDepth}).value_or(Json(Json::value_t::discarded));
}

}  // namespace

std::string python_json(std::string_view json) {
  const Json value = parse(json);
  return dump(value.is_discarded() ? Json(json) : value);
}

std::string compact_json(std::string_view json) {
  const Json value = parse(json);
  return scalar(value.is_discarded() ? Json(json) : value);
}

std::vector<JsonMember> json_members(std::string_view json) {
  std::vector<JsonMember> members;
  const Json object = parse(json);
  if (!object.is_object()) return members;
  for (const auto& [key, value] : object.items()) {
    const bool string = value.is_string();
    members.push_back(
        {.key = key, .value = string ? value.get<std::string>() : dump(value), .is_string = string});
  }
  return members;
}

std::string json_member(std::string_view json, std::string_view key) {
  const Json object = parse(json);
  if (!object.is_object()) return {};
  const auto found = object.find(std::string(key));
  return found == object.end() ? std::string() : dump(*found);
}

std::string json_string_member(std::string_view json, std::string_view key) {
  const Json object = parse(json);
  if (!object.is_object()) return {};
  const auto found = object.find(std::string(key));
  return found == object.end() || !found->is_string() ? std::string() : found->get<std::string>();
}

}  // namespace odmoe
