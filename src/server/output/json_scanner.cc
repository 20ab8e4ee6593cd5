#include "server/output/json_scanner.h"

#include <string_view>

#include "odmoe/format.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

// Of numbers, true, false and null.
bool is_json_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E';
}

}  // namespace

JsonScanner::Step JsonScanner::push(char byte) {
  return in_string_ ? push_in_string(byte) : push_outside(byte);
}

JsonScanner::Step JsonScanner::push_in_string(char byte) {
  if (escaped_) {
    escaped_ = false;
    if (byte == '\'') {  // as JavaScript has it
      text_.back() = '\'';
      return Step::kMore;
    }
    if (!std::string_view("\"\\/bfnrtu").contains(byte)) return Step::kWrong;
    text_ += byte;
    return Step::kMore;
  }
  const auto code = static_cast<uint8_t>(byte);
  if (code < 0x20) {
    text_ += odmoe::format("\\u{:04x}", code);
    return Step::kMore;
  }
  text_ += byte;
  escaped_ = byte == '\\';
  if (byte != '"') return Step::kMore;
  in_string_ = false;
  if (!is_key_) return end_value();
  is_key_ = false;
  expect_ = Expect::kColon;
  return Step::kMore;
}

JsonScanner::Step JsonScanner::end_value() {
  expect_ = Expect::kCommaOrEnd;
  return open_.empty() ? Step::kEnd : Step::kMore;
}

JsonScanner::Step JsonScanner::begin_value(char byte) {
  if (byte == '"') {
    in_string_ = true;
  } else if (byte == '{' || byte == '[') {
    if (open_.size() == kMaxScannedDepth) return Step::kWrong;
    open_ += byte;
    expect_ = byte == '{' ? Expect::kKeyOrEnd : Expect::kValueOrEnd;
  } else if (is_json_word(byte) && !open_.empty()) {
    in_word_ = true;
  } else {
    return Step::kWrong;
  }
  return Step::kMore;
}

JsonScanner::Step JsonScanner::push_outside(char byte) {
  if (in_word_ && !is_json_word(byte)) {
    in_word_ = false;
    expect_ = Expect::kCommaOrEnd;
  }
  text_ += byte;
  if (in_word_ || is_text_space(byte)) return Step::kMore;
  const bool closes =
      (byte == '}' || byte == ']') && !open_.empty() && open_.back() == (byte == '}' ? '{' : '[');
  switch (expect_) {
    case Expect::kValueOrEnd:
    case Expect::kKeyOrEnd:
    case Expect::kCommaOrEnd:
      if (closes) {
        open_.pop_back();
        return end_value();
      }
      break;
    default:
      break;
  }
  switch (expect_) {
    case Expect::kValue:
    case Expect::kValueOrEnd:
      return begin_value(byte);
    case Expect::kKey:
    case Expect::kKeyOrEnd:
      in_string_ = is_key_ = byte == '"';
      return in_string_ ? Step::kMore : Step::kWrong;
    case Expect::kColon:
      expect_ = Expect::kValue;
      return byte == ':' ? Step::kMore : Step::kWrong;
    case Expect::kCommaOrEnd:
      if (byte != ',' || open_.empty()) return Step::kWrong;
      expect_ = open_.back() == '{' ? Expect::kKey : Expect::kValue;
      return Step::kMore;
  }
  return Step::kWrong;
}

}  // namespace odmoe::server
