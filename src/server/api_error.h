// What went wrong with a request, before it is put into the words of a dialect.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

#include "odmoe/format.h"
#include "odmoe/result.h"

namespace odmoe::server {

// Whose fault it is.
enum class Fault : uint8_t {
  kRequest,  // the request's
  kKey,      // that of the key that it came with
  kRate,     // there are too many
  kServer,
};

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct ApiError {
  int status = 500;  // HTTP
  Fault fault = Fault::kServer;
  std::string message;  // one line for people
  // The field of the request, by OpenAI's name unless its dialect read it; empty: none in particular.
  std::string param = {};
  std::string code = {};  // for programs, empty: none
  int retry_after_s = 0;  // header Retry-After, 0: none
};
// NOLINTEND(readability-redundant-member-init)

template <typename T>
using ApiResult = std::expected<T, ApiError>;
using ApiStatus = std::expected<void, ApiError>;

// 400: the field `param` cannot be what it is.
// It is moved, which Clang's linter does not see in a template that nobody asks for.
// NOLINTBEGIN(performance-unnecessary-value-param)
template <typename... Args>
[[nodiscard]] std::unexpected<ApiError> bad_request(std::string param, std::format_string<Args...> format,
                                                    Args&&... args) {
  return std::unexpected(ApiError{.status = 400,
                                  .fault = Fault::kRequest,
                                  .message = odmoe::format(format, std::forward<Args>(args)...),
                                  .param = std::move(param)});
}
// NOLINTEND(performance-unnecessary-value-param)

// What the engine could not do: 400 for what the caller asked wrongly, 500 for what failed under it, 503 for
// what a server that was started again would do.
ApiError from_engine(const Error& error);

// Of an answer that has a status and nothing else, such as the HTTP library's own 404.
ApiError from_status(int status);

}  // namespace odmoe::server

// ODMOE_ASSIGN_OR_RETURN and ODMOE_RETURN_IF_ERROR work on these results too: they ask only for error().
