// What the formats of JSON Schema and of OpenAPI ask of strings and numbers.
//
// What is held is never wider than a format's specification, and narrower where that serves all who read it:
// numbers of a date-time have their zone, hosts are names or IPv4 addresses, and so on.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe::grammar {

// Regular expressions (regex.h) that the string matches, all of them; none for a format that says nothing, or
// is not known.
std::vector<std::string> format_patterns(std::string_view name);

// The least and the greatest number of a format of numbers, as JSON has them.
struct NumberFormat {
  std::string_view min, max;
  bool integral = false;
};
std::optional<NumberFormat> number_format(std::string_view name);

}  // namespace odmoe::grammar
