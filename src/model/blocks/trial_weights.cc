#include "model/blocks/trial_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace odmoe {
namespace {

constexpr int64_t kGroup = 64;
constexpr int64_t kMostGroups = 4;

// Multiplications that a trial may take: some ten milliseconds.
constexpr int64_t kWork = int64_t{1} << 26;

}  // namespace

float uniform(std::mt19937& random) {
  return static_cast<float>(random() >> 8U) / static_cast<float>(1U << 23U) - 1.0F;
}

void fill_weights(ggml_type type, int64_t n, std::span<std::byte> bytes, std::mt19937& random) {
  const auto convert = ggml_get_type_traits(type)->from_float_ref;
  if (!ggml_is_quantized(type) && (type == GGML_TYPE_F32 || convert != nullptr)) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = uniform(random);
    if (convert != nullptr) {
      convert(values.data(), bytes.data(), n);
    } else {
      std::memcpy(bytes.data(), values.data(), values.size() * sizeof(float));
    }
    return;
  }
  // Any bytes are quantised values of some kind; below 0x40 none of a scale's encodings (half precision, an
  // exponent, E4M3) is infinite or NaN.
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 26U);
}

int64_t tried_rows(int64_t n_in, int64_t n_out, int32_t most, int n_thread) {
  const int64_t n_column = int64_t{most} * (most + 1) / 2;
  const int64_t n_group = std::clamp(kWork / (n_column * n_in * kGroup), int64_t{1}, kMostGroups);
  return std::min(n_out, std::max(n_group, int64_t{n_thread}) * kGroup + n_out % kGroup);
}

}  // namespace odmoe
