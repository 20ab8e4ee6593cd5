#include "jinja/lexer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "jinja/failure.h"
#include "jinja/string_literal.h"
#include "jinja/text.h"
#include "jinja/unicode.h"

namespace odmoe::jinja {
namespace {

// Line ends as "\n", and the last one left out.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)), text_(source_) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) outside();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void add(TokenKind kind, std::string_view text) {
    tokens_.push_back({.kind = kind, .line = line_, .text = std::string(text)});
  }

  // Goes on to `end`, and counts the lines in between.
  void advance(size_t end) {
    if (end == at_) return;
    line_ += static_cast<int>(std::ranges::count(text_.substr(at_, end - at_), '\n'));
    line_starting_ = text_[end - 1] == '\n';
    at_ = end;
  }

  bool looking_at(std::string_view wanted) const { return text_.substr(at_).starts_with(wanted); }

  // Data up to the next tag, and that tag.
  void outside() {
    size_t tag = text_.find('{', at_);
    while (tag != std::string_view::npos &&
           !(tag + 1 < text_.size() && std::string_view("%{#").contains(text_[tag + 1]))) {
      tag = text_.find('{', tag + 1);
    }
    if (tag == std::string_view::npos) {
      add(TokenKind::kData, text_.substr(at_));
      advance(text_.size());
      return;
    }
    const char kind = text_[tag + 1];
    const char sign = sign_at(tag + 2);
    data(tag, sign, /*strip_line=*/kind != '{');
    if (kind == '#') return comment(tag + 2 + (sign == 0 ? 0 : 1));
    if (kind == '%') {
      if (const auto raw = raw_begin(tag + 2 + (sign == 0 ? 0 : 1))) return raw_block(*raw);
    }
    add(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    advance(tag + 2 + (sign == 0 ? 0 : 1));
    inside(kind == '%');
  }

  // "-" or "+", which say what becomes of the white space before a tag; 0: neither.
  char sign_at(size_t at) const {
    return at < text_.size() && (text_[at] == '-' || text_[at] == '+') ? text_[at] : '\0';
  }

  // Data from here to `end`, where a tag begins.
  void data(size_t end, char sign, bool strip_line) {
    size_t kept = end;
    if (sign == '-') {
      kept = std::max(at_, skip_space_back(text_, end));
    } else if (sign != '+' && strip_line) {
      const size_t newline = text_.substr(at_, end - at_).rfind('\n');
      const bool has_newline = newline != std::string_view::npos;
      const size_t line = has_newline ? at_ + newline + 1 : at_;
      if ((has_newline || line_starting_) && skip_space(text_.substr(0, end), line) == end) kept = line;
    }
    if (kept > at_) add(TokenKind::kData, text_.substr(at_, kept - at_));
    advance(end);
  }

  void comment(size_t begin) {
    const size_t end = text_.find("#}", begin);
    if (end == std::string_view::npos) raise_at(line_, "Missing end of comment tag");
    const char sign = end > begin ? text_[end - 1] : '\0';
    advance(after_tag(end + 2, sign));
  }

  // Where the text goes on behind a block's or comment's end, which the sign stands in front of.
  size_t after_tag(size_t end, char sign) const {
    if (sign == '-') return skip_space(text_, end);
    if (sign != '+' && end < text_.size() && text_[end] == '\n') return end + 1;
    return end;
  }

  // Where the text of a raw block begins, if one begins with `raw` at or behind `at`.
  std::optional<size_t> raw_begin(size_t at) const {
    at = skip_space(text_, at);
    if (!text_.substr(at).starts_with("raw")) return std::nullopt;
    at = skip_space(text_, at + 3);
    if (text_.substr(at).starts_with("-%}")) return skip_space(text_, at + 3);
    if (text_.substr(at).starts_with("%}")) return at + 2;
    return std::nullopt;
  }

  void raw_block(size_t begin) {
    advance(begin);
    for (size_t tag = text_.find("{%", at_); tag != std::string_view::npos; tag = text_.find("{%", tag + 1)) {
      const char sign = sign_at(tag + 2);
      size_t end = skip_space(text_, tag + 2 + (sign == 0 ? 0 : 1));
      if (!text_.substr(end).starts_with("endraw")) continue;
      end = skip_space(text_, end + 6);
      const char end_sign = sign_at(end);
      if (end_sign != 0) ++end;
      if (!text_.substr(end).starts_with("%}")) continue;
      data(tag, sign, /*strip_line=*/true);
      advance(after_tag(end + 2, end_sign));
      return;
    }
    raise_at(line_, "Missing end of raw directive");
  }

  // Tokens up to the end of a block or variable.
  void inside(bool block) {
    std::string open;  // the brackets that are to be closed
    while (at_ < text_.size()) {
      if (open.empty() && tag_end(block)) return;
      if (const size_t end = skip_space(text_, at_); end > at_) {
        advance(end);
      } else if (is_digit(text_[at_])) {
        number();
      } else if (const size_t name_end = end_of_name(); name_end > at_) {
        name(name_end);
      } else if (text_[at_] == '\'' || text_[at_] == '"') {
        string();
      } else {
        sign(open);
      }
    }
  }

  bool tag_end(bool block) {
    const std::string_view close = block ? "%}" : "}}";
    const bool minus = looking_at("-"), plus = block && looking_at("+");
    const size_t at = at_ + (minus || plus ? 1 : 0);
    if (!text_.substr(at).starts_with(close)) return false;
    add(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
    const size_t end = at + 2;
    if (block) {
      advance(after_tag(end, minus ? '-' : plus ? '+' : '\0'));
    } else {
      advance(minus ? skip_space(text_, end) : end);
    }
    return true;
  }

  size_t end_of_name() const {
    size_t end = at_;
    while (end < text_.size()) {
      const uint32_t c = code_point_at(text_, end);
      if (c != '_' && !is_alphanumeric(c)) break;
      end += char_size(text_, end);
    }
    return end;
  }

  void name(size_t end) {
    const std::string_view name = text_.substr(at_, end - at_);
    bool valid = code_point_at(name, 0) == '_' || has_property(code_point_at(name, 0), kIdStart);
    for (size_t at = 0; at < name.size(); at += char_size(name, at)) {
      valid &= name[at] == '_' || has_property(code_point_at(name, at), kIdContinue);
    }
    if (!valid) raise_at(line_, "Invalid character in identifier");
    add(TokenKind::kName, name);
    advance(end);
  }

  // Digits with single underscores between them.
  template <typename IsDigit>
  size_t end_of_digits(size_t at, const IsDigit& is) const {
    while (at < text_.size()) {
      if (is(text_[at])) {
        ++at;
      } else if (text_[at] == '_' && at + 1 < text_.size() && is(text_[at + 1])) {
        at += 2;
      } else {
        break;
      }
    }
    return at;
  }

  // Where a float that begins here ends; at_: there is none.
  size_t end_of_float() const {
    if (at_ > 0 && text_[at_ - 1] == '.') return at_;  // "x.0.1" has two indices
    size_t end = end_of_digits(at_, is_digit);
    const size_t whole = end;
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1]))
      end = end_of_digits(end + 1, is_digit);
    const size_t fraction = end;
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && is_digit(text_[exponent])) return end_of_digits(exponent, is_digit);
    }
    return fraction > whole ? fraction : at_;
  }

  size_t end_of_integer() const {
    if (text_[at_] != '0') return end_of_digits(at_, is_digit);
    const char base = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    const auto based = [&](const auto& is) {
      const size_t end = end_of_digits(at_ + 2, is);
      return end > at_ + 2 ? end : at_ + 1;
    };
    if (base == 'x' || base == 'X') {
      return based([](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
    }
    if (base == 'o' || base == 'O') return based([](char c) { return c >= '0' && c <= '7'; });
    if (base == 'b' || base == 'B') return based([](char c) { return c == '0' || c == '1'; });
    return end_of_digits(at_, [](char c) { return c == '0'; });
  }

  void number() {
    size_t end = end_of_float();
    const bool real = end > at_;
    if (!real) end = end_of_integer();
    std::string digits(text_.substr(at_, end - at_));
    std::erase(digits, '_');
    add(real ? TokenKind::kFloat : TokenKind::kInteger, digits);
    advance(end);
  }

  void string() {
    const char quote = text_[at_];
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) raise_at(line_, "unexpected char '{}': the string does not end", quote);
    add(TokenKind::kString, unescape_literal(text_.substr(at_ + 1, end - at_ - 1), line_));
    advance(end + 1);
  }

  void sign(std::string& open) {
    constexpr auto kSigns = std::to_array<std::string_view>(
        {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
         "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"});
    const auto* found = std::ranges::find_if(kSigns, [&](std::string_view one) { return looking_at(one); });
    if (found == kSigns.end()) {
      raise_at(line_, "unexpected char '{}'", text_.substr(at_, char_size(text_, at_)));
    }
    const char c = found->front();
    if (c == '{') open += '}';
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '}' || c == ')' || c == ']') {
      if (open.empty()) raise_at(line_, "unexpected '{}'", c);
      if (open.back() != c) raise_at(line_, "unexpected '{}', expected '{}'", c, open.back());
      open.pop_back();
    }
    add(TokenKind::kOperator, *found);
    advance(at_ + found->size());
  }

  std::string source_;
  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace odmoe::jinja
