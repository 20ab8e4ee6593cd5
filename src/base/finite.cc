#include "base/finite.h"

#include <algorithm>
#include <bit>
#include <cstdint>

namespace odmoe {
namespace {

constexpr size_t kBlock = 64;  // a number of its own, so that the loop over it becomes vectors

// Without its sign a float's bits are in the order of its size, NaN above infinity.
int32_t magnitude(float value) { return std::bit_cast<int32_t>(value) & 0x7FFFFFFF; }

bool block_is_below(int32_t limit, const float* values) {
  uint32_t bad = 0;
  for (size_t i = 0; i < kBlock; ++i) bad |= magnitude(values[i]) < limit ? 0U : 1U;
  return bad == 0;
}

}  // namespace

size_t first_not_below(float limit, std::span<const float> values) {
  const int32_t bits = magnitude(limit);
  size_t at = 0;
  while (at + kBlock <= values.size() && block_is_below(bits, values.data() + at)) at += kBlock;
  const auto rest = values.subspan(at);
  const auto bad = std::ranges::find_if(rest, [&](float value) { return magnitude(value) >= bits; });
  return at + static_cast<size_t>(bad - rest.begin());
}

}  // namespace odmoe
