#include "server/output/python_calls.h"

#include <cctype>
#include <charconv>
#include <cstdint>
#include <utility>

#include "base/utf8.h"
#include "server/json_guard.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

constexpr size_t kMaxPythonDepth = 64;
constexpr size_t kMaxPythonNameBytes = 128;

bool is_python_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
}

class PythonParser {
 public:
  explicit PythonParser(std::string_view text) : text_(text) {}

  std::optional<std::vector<ChatToolCall>> calls() {
    std::vector<ChatToolCall> calls;
    const bool list = take('[');
    do {
      if (list && peek() == ']') break;  // a comma behind the last one
      if (!call(calls)) return std::nullopt;
    } while (list && take(','));
    if (list && !take(']')) return std::nullopt;
    skip();
    if (at_ != text_.size() || calls.empty()) return std::nullopt;
    return calls;
  }

 private:
  void skip() {
    while (at_ < text_.size() && is_text_space(text_[at_])) ++at_;
  }
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  std::string_view name() {
    skip();
    const size_t begin = at_;
    while (at_ < text_.size() && is_python_name(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  bool call(std::vector<ChatToolCall>& calls) {
    std::string_view called = name();
    // Llama's built-in tools: brave_search.call(...)
    if (called.ends_with(".call")) called.remove_suffix(5);
    if (called.empty() || !take('(')) return false;
    Json arguments = Json::object();
    if (!members(arguments, ')', '=')) return false;
    calls.push_back({.name = std::string(called), .arguments = dump_json(arguments)});
    return true;
  }

  // key=value, ... of a call, or 'key': value, ... of a dict.
  bool members(Json& object, char end, char between) {
    while (!take(end)) {
      std::string key;
      if (between == '=') {
        key = name();
      } else if (Json value; this->value(value)) {
        key = value.is_string() ? value.get<std::string>() : dump_json(value);
      } else {
        return false;
      }
      if (key.empty() || !take(between) || !value(object[key])) return false;
      if (!take(',') && peek() != end) return false;
    }
    return true;
  }

  bool list(Json& out, char end) {
    out = Json::array();
    while (!take(end)) {
      if (!value(out.emplace_back())) return false;
      if (!take(',') && peek() != end) return false;
    }
    return true;
  }

  bool value(Json& out) {
    if (depth_ == kMaxPythonDepth) return false;
    ++depth_;
    const bool good = value_here(out);
    --depth_;
    return good;
  }

  bool value_here(Json& out) {
    switch (peek()) {
      case '"':
      case '\'':
        return string(out);
      case '{':
        ++at_;
        out = Json::object();
        return members(out, '}', ':');
      case '[':
        ++at_;
        return list(out, ']');
      case '(':
        ++at_;
        return list(out, ')');
      default:
        return word(out);
    }
  }

  bool word(Json& out) {
    const size_t begin = at_;
    while (at_ < text_.size() && (is_python_name(text_[at_]) || text_[at_] == '+')) ++at_;
    const std::string_view word = text_.substr(begin, at_ - begin);
    if (word == "True" || word == "true") {
      out = true;
    } else if (word == "False" || word == "false") {
      out = false;
    } else if (word == "None" || word == "null") {
      out = nullptr;
    } else {
      auto number = parse_json(word.starts_with('+') ? word.substr(1) : word);
      if (!number.has_value() || !number->is_number()) return false;
      out = std::move(*number);
    }
    return true;
  }

  // Strings that follow one another are one.
  bool string(Json& out) {
    std::string text;
    while (peek() == '"' || peek() == '\'') {
      const char quote = text_[at_++];
      for (;;) {
        if (at_ == text_.size()) return false;
        const char c = text_[at_++];
        if (c == quote) break;
        if (c != '\\') {
          text += c;
        } else if (!escape(text)) {
          return false;
        }
      }
    }
    out = std::move(text);
    return true;
  }

  bool escape(std::string& text) {
    if (at_ == text_.size()) return false;
    const char c = text_[at_++];
    constexpr std::string_view kFrom = "nrtbfva0\\'\"", kTo = {"\n\r\t\b\f\v\a\0\\'\"", 11};
    if (const size_t known = kFrom.find(c); known != std::string_view::npos) {
      text += kTo[known];
    } else if (c == '\n') {
      // Goes on in the next line.
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return code_point(text, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    } else {
      text += '\\';
      text += c;
    }
    return true;
  }

  bool hex(size_t digits, uint32_t& code) {
    if (text_.size() - at_ < digits) return false;
    const char* begin = text_.data() + at_;
    const auto read = std::from_chars(begin, begin + digits, code, 16);
    if (read.ec != std::errc() || read.ptr != begin + digits) return false;
    at_ += digits;
    return true;
  }

  bool code_point(std::string& text, size_t digits) {
    uint32_t code = 0;
    if (!hex(digits, code)) return false;
    // Two halves of a character, as JSON writes it.
    if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_).starts_with("\\u")) {
      const size_t before = at_;
      uint32_t low = 0;
      at_ += 2;
      if (hex(4, low) && low >= 0xDC00 && low < 0xE000) {
        code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
      } else {
        at_ = before;
      }
    }
    const bool character = code <= 0x10FFFF && (code < 0xD800 || code >= 0xE000);
    text += to_utf8(character ? code : 0xFFFD);
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t depth_ = 0;
};

}  // namespace

PythonScanner::Step PythonScanner::push(char byte) {
  text_ += byte;
  if (quote_ == 0) return push_outside(byte);
  if (escaped_) {
    escaped_ = false;
  } else if (byte == '\\') {
    escaped_ = true;
  } else if (byte == quote_) {
    quote_ = 0;
  }
  return Step::kMore;
}

PythonScanner::Step PythonScanner::push_outside(char byte) {
  if (!called_) {
    if (byte == '[' && open_.empty() && n_name_ == 0) {
      open_ += byte;
    } else if (byte == '(' && n_name_ > 0) {
      called_ = true;
      open_ += byte;
    } else if (is_python_name(byte)) {
      if (++n_name_ > kMaxPythonNameBytes) return Step::kWrong;
    } else if (!is_text_space(byte) || n_name_ > 0) {
      return Step::kWrong;
    }
    return Step::kMore;
  }
  switch (byte) {
    case '"':
    case '\'':
      quote_ = byte;
      break;
    case '(':
    case '[':
    case '{':
      if (open_.size() == kMaxPythonDepth) return Step::kWrong;
      open_ += byte;
      break;
    case ')':
    case ']':
    case '}':
      if (open_.back() != (byte == ')' ? '(' : byte == ']' ? '[' : '{')) return Step::kWrong;
      open_.pop_back();
      if (open_.empty()) return Step::kEnd;
      break;
    default:
      break;
  }
  return Step::kMore;
}

std::optional<std::vector<ChatToolCall>> parse_python_calls(std::string_view text) {
  return PythonParser(text).calls();
}

}  // namespace odmoe::server
