#include "grammar/decimal.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

namespace odmoe::grammar {
namespace {

int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int whole = a.whole.compare(b.whole); whole != 0) return whole;
  // Without trailing zeros the order of the texts is that of the numbers.
  return a.fraction.compare(b.fraction);
}

Decimal of_text(std::string text) {
  Decimal decimal;
  decimal.negative = text.starts_with('-');
  if (decimal.negative) text.erase(0, 1);
  const size_t point = std::min(text.find('.'), text.size());
  decimal.whole = text.substr(0, point);
  if (point < text.size()) decimal.fraction = text.substr(point + 1);
  while (decimal.fraction.ends_with('0')) decimal.fraction.pop_back();
  if (decimal.is_zero()) decimal.negative = false;
  return decimal;
}

}  // namespace

Decimal Decimal::of(const nlohmann::ordered_json& number) {
  if (number.is_number_integer()) return of_text(number.dump());
  std::array<char, 512> digits{};  // 309 before the point, or 324 and 17 more behind it
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number.get<double>(),
                                 std::chars_format::fixed);
  return of_text({digits.data(), end.ptr});
}

Decimal Decimal::parse(std::string_view json_number) {
  return of(nlohmann::ordered_json::parse(json_number));
}

std::optional<int64_t> Decimal::units(size_t places) const {
  if (fraction.size() > places) return std::nullopt;
  std::string digits = whole + fraction + std::string(places - fraction.size(), '0');
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  if (digits.size() > 17) return std::nullopt;
  const int64_t magnitude = std::stoll(digits);
  return negative ? -magnitude : magnitude;
}

std::string Decimal::text() const {
  return (negative ? "-" : "") + whole + (fraction.empty() ? "" : "." + fraction);
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  return a.negative ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
}

}  // namespace odmoe::grammar
