#include "format/printable.h"

#include <cstdint>

#include "base/utf8.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// C0 and C1 controls, the line separators, and the marks that reorder text on a terminal.
bool is_control(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(character[i]); };
  if (character.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7F;
  if (character.size() == 2) return byte(0) == 0xC2 && byte(1) < 0xA0;
  if (character.size() != 3 || byte(0) != 0xE2) return false;
  return (byte(1) == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAE) ||
         (byte(1) == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9);
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    default:
      out += odmoe::format("\\x{:02x}", static_cast<uint8_t>(c));
  }
}

}  // namespace

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    if (out.size() >= max_bytes) return out + "...";
    const Utf8Char read = read_utf8(text);
    const std::string_view character = text.substr(0, read.valid ? read.length : 1);
    if (character == "\\") {
      out += "\\\\";
    } else if (!read.valid || is_control(character)) {
      for (const char c : character) append_escaped(out, c);
    } else {
      out += character;
    }
    text.remove_prefix(character.size());
  }
  return out;
}

std::string printable_path(const std::filesystem::path& path) { return printable(path.string(), 400); }

}  // namespace odmoe
