// Words about text that the readers of outputs share.
#pragma once

#include <string_view>

namespace odmoe::server {

inline constexpr std::string_view kTextSpaces = " \t\r\n";

inline bool is_text_space(char c) { return kTextSpaces.contains(c); }

inline std::string_view trim_text(std::string_view text) {
  const size_t begin = text.find_first_not_of(kTextSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kTextSpaces) - begin + 1);
}

}  // namespace odmoe::server
