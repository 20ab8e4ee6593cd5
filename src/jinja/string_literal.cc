#include "jinja/string_literal.h"

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/utf8.h"
#include "jinja/failure.h"

namespace odmoe::jinja {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_octal(char c) { return c >= '0' && c <= '7'; }

class LiteralReader {
 public:
  LiteralReader(std::string_view text, int line) : text_(text), line_(line) {}

  std::string read() {
    std::string out;
    while (at_ < text_.size()) {
      const size_t backslash = text_.find('\\', at_);
      out += text_.substr(at_, backslash - at_);
      if (backslash == std::string_view::npos) break;
      at_ = backslash + 1;
      escape(out);
    }
    return out;
  }

 private:
  void escape(std::string& out) {
    if (at_ == text_.size()) raise_at(line_, "\\ at end of string");
    const char c = text_[at_++];
    switch (c) {
      case '\n':  // the line goes on
        break;
      case '\\':
      case '\'':
      case '"':
        out += c;
        break;
      case 'a':
        out += '\a';
        break;
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'v':
        out += '\v';
        break;
      case 'x':
        out += to_utf8(hex(2));
        break;
      case 'u':
        out += to_utf8(paired(hex(4)));
        break;
      case 'U':
        out += to_utf8(paired(hex(8)));
        break;
      case 'N':
        raise_at(line_, "characters by their names (\\N{{...}}) are not known");
      default:
        if (is_octal(c)) {
          out += to_utf8(octal(c));
        } else {
          out += '\\';
          out += c;
        }
    }
  }

  uint32_t hex(int n_digits) {
    uint32_t value = 0;
    for (int i = 0; i < n_digits; ++i) {
      const int digit = at_ < text_.size() ? hex_value(text_[at_]) : -1;
      if (digit < 0) raise_at(line_, "truncated escape of a character in a string");
      value = value * 16 + static_cast<uint32_t>(digit);
      ++at_;
    }
    return value;
  }

  uint32_t octal(char first) {
    auto value = static_cast<uint32_t>(first - '0');
    for (int i = 0; i < 2 && at_ < text_.size() && is_octal(text_[at_]); ++i) {
      value = value * 8 + static_cast<uint32_t>(text_[at_++] - '0');
    }
    return value;
  }

  // Two escapes that are the halves of one character, as JSON has them.
  uint32_t paired(uint32_t code_point) {
    if (code_point > 0x10FFFF) raise_at(line_, "illegal Unicode character in a string");
    if (code_point < 0xD800 || code_point > 0xDFFF) return code_point;
    if (code_point < 0xDC00 && text_.substr(at_).starts_with("\\u")) {
      at_ += 2;
      const uint32_t low = hex(4);
      if (low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((code_point - 0xD800) << 10U) + (low - 0xDC00);
    }
    raise_at(line_, "half of a character (a surrogate) in a string");
  }

  std::string_view text_;
  int line_;
  size_t at_ = 0;
};

}  // namespace

std::string unescape_literal(std::string_view text, int line) { return LiteralReader(text, line).read(); }

}  // namespace odmoe::jinja
