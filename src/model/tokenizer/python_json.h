// JSON as Python's json.dumps(x, ensure_ascii=False) writes it, which is what chat templates show to models.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace odmoe {

// `json` with ", " and ": " between its parts, keys in their order; text that is no JSON becomes a string.
std::string python_json(std::string_view json);

// The same with "," and ":".
std::string compact_json(std::string_view json);

// One member of an object.  Both empty when there is none.
struct JsonMember {
  std::string key;
  std::string value;  // of a string its characters, of anything else as python_json() writes it
  bool is_string = false;
};
// The members of an object in their order; none when `json` is no object.
std::vector<JsonMember> json_members(std::string_view json);

// The member `key` of an object as python_json() writes it; empty when there is none.
std::string json_member(std::string_view json, std::string_view key);
// The same for strings: their characters.
std::string json_string_member(std::string_view json, std::string_view key);

}  // namespace odmoe
