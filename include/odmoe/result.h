// Errors as values.  Nothing in odmoe throws across a module's boundary: what the world can do
// wrong comes back as a Result; our own mistakes are assertions.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include "odmoe/format.h"

namespace odmoe {

enum class ErrorKind {
  kUsage,        // the caller asked for something that makes no sense; the command line exits with 2
  kNotFound,     // no such file or tensor
  kBadFile,      // a file is damaged, truncated or not what it says it is
  kUnsupported,  // the file is sound, but this program cannot run it
  kBudget,       // does not fit in the memory that was allowed
  kIo,           // the operating system failed a read or a write
  kDeviceLost,   // a device failed and computes no more in this process: start it again
  kInterrupted,  // the user or a signal asked to stop; the command line exits with 130
};

// One line for people: what happened, where, and what to do about it.  No trailing full stop or newline.
struct Error {
  ErrorKind kind;
  std::string message;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorKind kind, std::format_string<Args...> format,
                                          Args&&... args) {
  return std::unexpected(Error{kind, odmoe::vformat(format.get(), std::make_format_args(args...))});
}

}  // namespace odmoe

// Returns the error of EXPR from the enclosing function, if it has one.
#define ODMOE_RETURN_IF_ERROR(expr)                                \
  do {                                                             \
    if (auto odmoe_status_ = (expr); !odmoe_status_.has_value()) { \
      return std::unexpected(std::move(odmoe_status_).error());    \
    }                                                              \
  } while (false)

// ODMOE_ASSIGN_OR_RETURN(auto file, open(path));
#define ODMOE_CONCAT_INNER_(a, b) a##b
#define ODMOE_CONCAT_(a, b) ODMOE_CONCAT_INNER_(a, b)
#define ODMOE_ASSIGN_OR_RETURN(declaration, expr) \
  ODMOE_ASSIGN_OR_RETURN_IMPL_(ODMOE_CONCAT_(odmoe_result_, __LINE__), declaration, expr)
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses
#define ODMOE_ASSIGN_OR_RETURN_IMPL_(result, declaration, expr)               \
  auto result = (expr);                                                       \
  if (!result.has_value()) return std::unexpected(std::move(result).error()); \
  declaration = std::move(*result)
// NOLINTEND(bugprone-macro-parentheses)
