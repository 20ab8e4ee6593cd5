#include "base/numbers.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <locale>
#include <sstream>
#include <string>

namespace odmoe {
namespace {

size_t digits(std::string_view text, size_t at) {
  return std::min(text.find_first_not_of("0123456789", at), text.size()) - at;
}

// Few digits are a quotient of two whole numbers that T holds exactly, and so rounded right (Clinger, PLDI
// 1990).  Nothing where there are more.
template <typename T>
std::optional<T> quotient(std::string_view whole, std::string_view fraction) {
  constexpr auto kMostInteger = uint64_t{1} << static_cast<unsigned>(std::numeric_limits<T>::digits);
  constexpr size_t kMostPower = std::numeric_limits<T>::digits > 24 ? 22 : 10;  // of ten that is exact
  if (whole.size() + fraction.size() > 18 || fraction.size() > kMostPower) return std::nullopt;
  uint64_t integer = 0;
  for (const std::string_view part : {whole, fraction}) {
    for (const char c : part) integer = integer * 10 + static_cast<uint64_t>(c - '0');
  }
  if (integer > kMostInteger) return std::nullopt;
  T power = 1;
  for (size_t i = 0; i < fraction.size(); ++i) power *= 10;
  return static_cast<T>(integer) / power;
}

template <typename T>
std::optional<ParsedNumber<T>> parse(std::string_view text) {
  const size_t begin = text.starts_with('-') ? 1 : 0;
  const size_t n_whole = digits(text, begin);
  size_t end = begin + n_whole;
  size_t n_fraction = 0;
  if (end < text.size() && text[end] == '.') {
    n_fraction = digits(text, end + 1);
    if (n_whole + n_fraction > 0) end += 1 + n_fraction;
  }
  if (n_whole + n_fraction == 0) return std::nullopt;
  const size_t n_mantissa = end;
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    const size_t sign = end + 1 < text.size() && (text[end + 1] == '+' || text[end + 1] == '-') ? 1 : 0;
    const size_t n_exponent = digits(text, end + 1 + sign);
    if (n_exponent > 0) end += 1 + sign + n_exponent;
  }

  if (end == n_mantissa) {
    const std::string_view fraction = text.substr(end - n_fraction, n_fraction);
    if (const auto value = quotient<T>(text.substr(begin, n_whole), fraction))
      return ParsedNumber<T>{begin == 1 ? -*value : *value, end};
  }
  std::istringstream stream{std::string(text.substr(0, end))};
  stream.imbue(std::locale::classic());
  T value = 0;
  stream >> value;
  if (stream.fail() || !std::isfinite(value)) return std::nullopt;
  return ParsedNumber<T>{value, end};
}

}  // namespace

std::optional<ParsedNumber<double>> parse_double(std::string_view text) { return parse<double>(text); }
std::optional<ParsedNumber<float>> parse_float(std::string_view text) { return parse<float>(text); }

}  // namespace odmoe
