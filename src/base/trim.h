// White space at the ends of a text.
#pragma once

#include <string_view>

namespace odmoe {

// The text without any of `space` at its beginning and end; a part of it.
constexpr std::string_view trimmed(std::string_view text, std::string_view space) {
  const size_t begin = text.find_first_not_of(space);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(space) + 1 - begin);
}

}  // namespace odmoe
