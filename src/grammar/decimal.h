// Numbers as people write them, compared exactly.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace odmoe::grammar {

struct Decimal {
  bool negative = false;
  std::string whole = "0";  // without leading zeros
  std::string fraction;     // without trailing zeros

  // Of a JSON number: of a double the shortest text that is that double.
  static Decimal of(const nlohmann::ordered_json& number);
  static Decimal parse(std::string_view json_number);
  bool is_zero() const { return whole == "0" && fraction.empty(); }
  bool is_integer() const { return fraction.empty(); }
  // So many times 10^-places; nothing where that is not an integer of 17 digits.
  std::optional<int64_t> units(size_t places) const;
  std::string text() const;
  bool operator==(const Decimal&) const = default;
};
// Below 0, 0 or above 0 as `a` is less than, equal to or more than `b`.
int compare(const Decimal& a, const Decimal& b);

}  // namespace odmoe::grammar
