// How evaluation ends early inside of this module.  Template::parse() and render() turn it into an Error; it
// passes no other boundary.
#pragma once

#include <exception>
#include <format>
#include <string>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::jinja {

// What Python or jinja2 would have raised.
enum class FailureKind {
  kSyntax,     // the template cannot be read
  kType,       // TypeError
  kValue,      // ValueError, IndexError, KeyError, OverflowError, ...
  kUndefined,  // UndefinedError
  kSecurity,   // SecurityError
  kRuntime,    // TemplateRuntimeError
  kRaised,     // raise_exception(): the template's own words
  kLimit,      // one of Limits
  kEnded,      // nobody wants it any more
};

class Failure : public std::exception {
 public:
  Failure(FailureKind kind, std::string message, int line)
      : kind_(kind), message_(std::move(message)), line_(line) {}

  const char* what() const noexcept override { return message_.c_str(); }
  FailureKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  int line() const { return line_; }  // of the template; 0: not known here

 private:
  FailureKind kind_;
  std::string message_;
  int line_;
};

template <typename... Args>
[[noreturn]] void raise(FailureKind kind, std::format_string<Args...> format, Args&&... args) {
  throw Failure(kind, odmoe::vformat(format.get(), std::make_format_args(args...)), 0);
}
template <typename... Args>
[[noreturn]] void raise_at(int line, std::format_string<Args...> format, Args&&... args) {
  throw Failure(FailureKind::kSyntax, odmoe::vformat(format.get(), std::make_format_args(args...)), line);
}

}  // namespace odmoe::jinja
