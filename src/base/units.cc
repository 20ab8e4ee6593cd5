#include "base/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "base/numbers.h"

namespace odmoe {

Result<uint64_t> parse_bytes(std::string_view text) {
  const auto number = parse_double(text);
  const auto bad = [&] {
    return fail(ErrorKind::kUsage, "'{}' is not a size; write it like 8GiB, 900MiB or 4096", text);
  };
  if (!number || number->value < 0) return bad();
  std::string unit(text.substr(number->size));
  std::erase_if(unit, [](unsigned char c) { return std::isspace(c) != 0; });
  std::ranges::transform(unit, unit.begin(), [](unsigned char c) { return std::tolower(c); });

  double scale = 1;
  if (!unit.empty() && unit != "b") {
    const auto power = std::string_view("kmgt").find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || !(rest.empty() || rest == "ib" || rest == "b")) return bad();
    scale = std::pow(rest == "b" ? 1000.0 : 1024.0, static_cast<double>(power + 1));
  }
  const double bytes = number->value * scale;
  if (!(bytes < 9.2e18)) return bad();
  return static_cast<uint64_t>(bytes);
}

Result<double> parse_rate(std::string_view text) {
  std::string packed(text);
  std::erase_if(packed, [](unsigned char c) { return std::isspace(c) != 0; });
  const auto number = parse_double(packed);
  const auto bad = [&] {
    return fail(ErrorKind::kUsage, "'{}' is not a rate; write it like 6.5GB/s, 800GiB/s or 550MB/s", text);
  };
  if (!number) return bad();
  std::string_view unit = std::string_view(packed).substr(number->size);
  if (unit.contains("bit") || unit.ends_with("bps") || unit.ends_with("b/s")) {
    return fail(ErrorKind::kUsage,
                "'{}' counts bits; write bytes, an eighth of it, with a capital B: 10Gbit/s is 1.25GB/s",
                text);
  }
  if (!unit.ends_with("/s")) return bad();
  unit.remove_suffix(2);
  const auto bytes = parse_bytes(packed.substr(0, number->size + unit.size()));
  if (!bytes.has_value()) return bad();
  return static_cast<double>(*bytes);
}

std::string format_bytes(uint64_t bytes) {
  if (bytes < kKiB) return odmoe::format("{} B", bytes);
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes) / 1024.0;
  size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return odmoe::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, kUnits[unit]);
}

std::string format_rate(double bytes_per_second) {
  return format_bytes(static_cast<uint64_t>(bytes_per_second)) + "/s";
}

}  // namespace odmoe
