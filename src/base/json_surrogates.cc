#include "base/json_surrogates.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <system_error>

namespace odmoe {
namespace {

constexpr size_t kEscapeBytes = 6;  // \uXXXX

// The code of an escape that begins at `at`; 0: none does, or of no half.
uint32_t half_at(std::string_view json, size_t at) {
  if (json.size() < at + kEscapeBytes || json[at] != '\\' || json[at + 1] != 'u') return 0;
  uint32_t code = 0;
  const char* digits = json.data() + at + 2;
  const auto read = std::from_chars(digits, digits + 4, code, 16);
  if (read.ec != std::errc() || read.ptr != digits + 4) return 0;
  return code >= 0xD800 && code < 0xE000 ? code : 0;
}

}  // namespace

std::optional<std::string> without_lone_surrogates(std::string_view json) {
  std::optional<std::string> mended;
  size_t at = 0;
  while ((at = json.find('\\', at)) != std::string_view::npos) {
    const uint32_t half = half_at(json, at);
    if (half == 0) {
      at += 2;
      continue;
    }
    const bool pair = half < 0xDC00 && half_at(json, at + kEscapeBytes) >= 0xDC00;
    if (!pair) {
      if (!mended) mended = std::string(json);
      mended->replace(at, kEscapeBytes, "\\ufffd");
    }
    at += pair ? 2 * kEscapeBytes : kEscapeBytes;
  }
  return mended;
}

}  // namespace odmoe
