#include "base/utf8.h"

#include <algorithm>

namespace odmoe {
namespace {

struct Lead {
  size_t length;  // 0: no character begins with this byte
  uint8_t low;    // the range of the second byte, which rules out overlong forms and surrogates
  uint8_t high;
  uint8_t bits;  // of the lead byte that belong to the code point
};

constexpr Lead classify(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0, 0x7F};
  if (lead < 0xC2) return {0, 0, 0, 0};
  if (lead < 0xE0) return {2, 0x80, 0xBF, 0x1F};
  if (lead == 0xE0) return {3, 0xA0, 0xBF, 0x0F};
  if (lead == 0xED) return {3, 0x80, 0x9F, 0x0F};
  if (lead < 0xF0) return {3, 0x80, 0xBF, 0x0F};
  if (lead == 0xF0) return {4, 0x90, 0xBF, 0x07};
  if (lead < 0xF4) return {4, 0x80, 0xBF, 0x07};
  if (lead == 0xF4) return {4, 0x80, 0x8F, 0x07};
  return {0, 0, 0, 0};
}

}  // namespace

Utf8Char read_utf8(std::string_view text) {
  const auto byte_at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = classify(byte_at(0));
  if (lead.length == 0) return {.code_point = 0, .length = 1, .valid = false, .truncated = false};

  uint32_t code_point = byte_at(0) & lead.bits;
  const size_t available = std::min(lead.length, text.size());
  for (size_t i = 1; i < available; ++i) {
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte_at(i) < low || byte_at(i) > high) {
      return {.code_point = 0, .length = i, .valid = false, .truncated = false};
    }
    code_point = code_point << 6 | (byte_at(i) & 0x3F);
  }
  const bool complete = available == lead.length;
  return {.code_point = complete ? code_point : 0,
          .length = available,
          .valid = complete,
          .truncated = !complete};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char next = read_utf8(text);
    if (!next.valid) return false;
    text.remove_prefix(next.length);
  }
  return true;
}

std::string to_utf8(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(static_cast<uint8_t>(value)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6U), byte(0x80 | (c & 0x3F))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12U), byte(0x80 | (c >> 6U & 0x3F)), byte(0x80 | (c & 0x3F))};
  return {byte(0xF0 | c >> 18U), byte(0x80 | (c >> 12U & 0x3F)), byte(0x80 | (c >> 6U & 0x3F)),
          byte(0x80 | (c & 0x3F))};
}

}  // namespace odmoe
