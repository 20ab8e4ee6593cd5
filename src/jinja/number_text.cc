#include "jinja/number_text.h"

#include <cctype>
#include <cmath>
#include <cstdlib>

#include "odmoe/format.h"

namespace odmoe::jinja {

Digits integer_digits(const Value& integer, int base, bool upper) {
  const bool negative = !integer.is_big() && integer.integer() < 0;
  uint64_t rest = integer.is_big() ? integer.big_integer() : static_cast<uint64_t>(integer.integer());
  if (negative) rest = 0 - rest;
  std::string reversed;
  do {
    const auto digit = static_cast<char>(rest % base);
    reversed += static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
    rest /= base;
  } while (rest != 0);
  return {.negative = negative, .text = {reversed.rbegin(), reversed.rend()}};
}

Digits float_digits(double value, char type, int precision, bool alternate) {
  const bool upper = std::isupper(static_cast<unsigned char>(type)) != 0;
  Digits result{.negative = std::signbit(value) && !std::isnan(value), .text = {}};
  value = std::fabs(value);
  if (!std::isfinite(value)) {
    result.text = std::isnan(value) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf");
    return result;
  }
  switch (std::tolower(static_cast<unsigned char>(type))) {
    case 'e':
      result.text = alternate ? odmoe::format("{:#.{}e}", value, precision)
                              : odmoe::format("{:.{}e}", value, precision);
      break;
    case 'f':
      result.text = alternate ? odmoe::format("{:#.{}f}", value, precision)
                              : odmoe::format("{:.{}f}", value, precision);
      break;
    default:
      result.text = alternate ? odmoe::format("{:#.{}g}", value, precision)
                              : odmoe::format("{:.{}g}", value, precision);
  }
  if (upper) {
    for (char& c : result.text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return result;
}

}  // namespace odmoe::jinja
