// Calls in Python's words: get_weather(location="Zürich", days=3, exact=True).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/chat.h"

namespace odmoe::server {

// Finds where a call, or a list of calls in brackets, ends while it comes byte by byte.  One owner.
class PythonScanner {
 public:
  enum class Step : uint8_t { kMore, kEnd, kWrong };
  Step push(char byte);  // kWrong: it does not begin as a call does
  const std::string& text() const { return text_; }

 private:
  Step push_outside(char byte);

  std::string text_;
  std::string open_;  // the brackets that are open, outermost first
  size_t n_name_ = 0;
  bool called_ = false;  // a name and its parenthesis were seen
  char quote_ = 0;       // of the string that it is in
  bool escaped_ = false;
};

// `text` is one call or a list of calls; nothing when it is something else.  Arguments are keyword arguments
// with literals as values, those of JSON among them; they come as JSON.
std::optional<std::vector<ChatToolCall>> parse_python_calls(std::string_view text);

}  // namespace odmoe::server
