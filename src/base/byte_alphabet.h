// GPT-2's alphabet: every byte has one printable character, so that a vocabulary can be written as text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace odmoe {

// The code point that stands for `byte`: itself when printable in Latin-1, else one from U+0100 on.
uint32_t byte_to_code_point(uint8_t byte);

std::string to_byte_alphabet(std::string_view bytes);
// The bytes that `text`, written in that alphabet, stands for; nothing when a character is not of it.
std::optional<std::string> decode_byte_alphabet(std::string_view text);

}  // namespace odmoe
