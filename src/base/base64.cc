#include "base/base64.h"

#include <array>
#include <cstdint>

namespace odmoe {
namespace {

constexpr std::string_view kBase64Alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) {
      bits = bits << 8U | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0U);
    }
    for (size_t k = 0; k < 4; ++k) {
      const bool padding = i + k > bytes.size();
      text.push_back(padding ? '=' : kBase64Alphabet[bits >> (18U - 6U * k) & 0x3FU]);
    }
  }
  return text;
}

std::optional<std::string> decode_base64(std::string_view text, size_t max_bytes) {
  static constexpr auto kValues = [] {
    std::array<int8_t, 256> values{};
    values.fill(-1);
    for (size_t i = 0; i < kBase64Alphabet.size(); ++i)
      values[static_cast<uint8_t>(kBase64Alphabet[i])] = static_cast<int8_t>(i);
    return values;
  }();
  std::string bytes;
  uint32_t bits = 0;
  int n_bit = 0;
  size_t n_char = 0, n_pad = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ' || c == '\t') continue;
    ++n_char;
    if (c == '=') {
      if (++n_pad > 2) return std::nullopt;
      continue;
    }
    const int value = kValues[static_cast<uint8_t>(c)];
    if (value < 0 || n_pad > 0) return std::nullopt;
    bits = bits << 6U | static_cast<uint32_t>(value);
    n_bit += 6;
    if (n_bit < 8) continue;
    n_bit -= 8;
    if (bytes.size() == max_bytes) return std::nullopt;
    bytes.push_back(static_cast<char>(bits >> static_cast<uint32_t>(n_bit) & 0xFFU));
  }
  if (n_char % 4 == 1 || (n_pad > 0 && n_char % 4 != 0)) return std::nullopt;
  return bytes;
}

}  // namespace odmoe
