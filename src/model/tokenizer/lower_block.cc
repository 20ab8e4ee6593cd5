#include "model/tokenizer/lower_block.h"

#include <charconv>
#include <cstdint>

namespace odmoe {

std::string spaces_for_lower_blocks(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t at = text.find(kLowerBlock);
    out += text.substr(0, at);
    if (at == std::string_view::npos) break;
    out += ' ';
    text.remove_prefix(at + kLowerBlock.size());
  }
  return out;
}

std::optional<std::string> decode_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  if (error != std::errc() || end != text.data() + 5) return std::nullopt;
  return std::string(1, static_cast<char>(byte));
}

}  // namespace odmoe
