// Sizes as people write them (8GiB, 900MiB, 25%) and as they read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
constexpr uint64_t round_down(uint64_t value, uint64_t multiple) { return value / multiple * multiple; }

// "8GiB", "900 MiB", "1.5G", "4096": bytes.  K, M, G, T and KiB, MiB, ... are powers of 1024;
// KB, MB, GB, TB are powers of 1000, as drives are sold.  Negative, empty or overflowing text is kUsage.
Result<uint64_t> parse_bytes(std::string_view text);

// "6.5GB/s", "800 GiB/s", "550MB/s": bytes per second, in the units of parse_bytes().  kUsage without "/s",
// and for bits ("10Gb/s", "10Gbit/s", "10Gbps"), which are said to be some.
Result<double> parse_rate(std::string_view text);

// "1.50 GiB", "12.0 MiB", "512 B".
std::string format_bytes(uint64_t bytes);

// "1.50 GiB/s".
std::string format_rate(double bytes_per_second);

}  // namespace odmoe
