// Hexadecimal digits.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace odmoe {

// The value of a digit of either case; -1: it is not a digit.
int hex_digit(char c);

// Two lower-case digits a byte.
std::string to_hex(std::span<const std::byte> bytes);
// The bytes that to_hex() writes so; nothing for any other text, upper-case digits included.
std::optional<std::string> from_hex(std::string_view text);

}  // namespace odmoe
