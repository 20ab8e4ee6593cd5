// Finds where a JSON object, list or string ends while it comes byte by byte, whatever marks its strings
// spell.
#pragma once

#include <cstdint>
#include <string>

namespace odmoe::server {

inline constexpr size_t kMaxScannedDepth = 64;

// One owner.
class JsonScanner {
 public:
  enum class Step : uint8_t { kMore, kEnd, kWrong };

  // The next byte, white space before the value included.  kEnd: the value is whole with it.  kWrong: it is
  // not JSON, or not an object, a list or a string; nothing more may be pushed then, nor after kEnd.
  Step push(char byte);

  // What was pushed, as JSON: control characters within strings, which models write as they are, are escaped.
  // Numbers and words are not looked at closely: whoever parses the text does.
  const std::string& text() const { return text_; }

 private:
  enum class Expect : uint8_t { kValue, kValueOrEnd, kKey, kKeyOrEnd, kColon, kCommaOrEnd };
  Step push_in_string(char byte);
  Step push_outside(char byte);
  Step begin_value(char byte);
  Step end_value();

  std::string text_;
  std::string open_;  // the brackets that are open, outermost first
  Expect expect_ = Expect::kValue;
  bool in_string_ = false, in_word_ = false, is_key_ = false, escaped_ = false;
};

}  // namespace odmoe::server
