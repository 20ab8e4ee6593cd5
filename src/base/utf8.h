// UTF-8 as the Unicode standard has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace odmoe {

struct Utf8Char {
  uint32_t code_point = 0;
  // Bytes of the character; when it is not valid, of the longest part that some character begins with
  // (at least 1), which is what the standard advises to replace by one U+FFFD.
  size_t length = 0;
  bool valid = false;
  bool truncated = false;  // not valid, but more bytes could have made it so
};

// The first character of `text`, which is not empty.
Utf8Char read_utf8(std::string_view text);

// Whether all of it is.
bool is_utf8(std::string_view text);

// A code point as it is written.
std::string to_utf8(uint32_t code_point);

}  // namespace odmoe
