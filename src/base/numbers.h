// Numbers with a fraction, as people write them.  std::from_chars would do, but libc++ (macOS) reads only
// integers with it.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace odmoe {

template <typename T>
struct ParsedNumber {
  T value = 0;
  size_t size = 0;  // characters that it takes
};

// The number that `text` begins with: [-]digits[.digits][e[+-]digits], digits on at least one side of the
// point; rounded to the nearest T, whatever the locale.  Nothing where there is none or T cannot hold it.
std::optional<ParsedNumber<double>> parse_double(std::string_view text);
std::optional<ParsedNumber<float>> parse_float(std::string_view text);

}  // namespace odmoe
