// std::format, whose machinery is compiled once instead of in each file that uses it: with GCC 14 that takes
// 1.9 s a file, more than all else in most.  And macOS before 13.4 can format no floating-point numbers,
// which one file now knows.
#pragma once

#include <format>
#include <string>
#include <string_view>

namespace odmoe {

// As std::vformat.
std::string vformat(std::string_view format, std::format_args arguments);

// As std::format: what the arguments do not fit is an error when it is compiled.
template <typename... Args>
std::string format(std::format_string<Args...> format, Args&&... arguments) {
  return odmoe::vformat(format.get(), std::make_format_args(arguments...));
}

}  // namespace odmoe
