#include "base/byte_alphabet.h"

#include <array>

#include "base/utf8.h"

namespace odmoe {
namespace {

constexpr uint32_t kFirstShifted = 0x100;

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint32_t, 256> code_point{};
  std::array<int16_t, 2 * 256> byte{};  // by code point; -1: not of the alphabet

  constexpr Alphabet() {
    byte.fill(-1);
    uint32_t shifted = kFirstShifted;
    for (uint32_t b = 0; b < 256; ++b) {
      code_point[b] = stands_for_itself(b) ? b : shifted++;
      byte[code_point[b]] = static_cast<int16_t>(b);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

uint32_t byte_to_code_point(uint8_t byte) { return kAlphabet.code_point[byte]; }

std::string to_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += to_utf8(byte_to_code_point(static_cast<uint8_t>(byte)));
  return text;
}

std::optional<std::string> decode_byte_alphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = read_utf8(text);
    if (!c.valid || c.code_point >= kAlphabet.byte.size()) return std::nullopt;
    const int16_t byte = kAlphabet.byte[c.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    text.remove_prefix(c.length);
  }
  return bytes;
}

}  // namespace odmoe
