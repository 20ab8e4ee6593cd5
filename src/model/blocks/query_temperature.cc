#include "model/blocks/query_temperature.h"

#include <cmath>

namespace odmoe {

float QueryTemperature::at(int64_t position) const {
  if (scale == 0) return 1;
  // In llama.cpp's types, one after the other, so that the bits are its own.
  const float steps = std::floor((static_cast<float>(position) + offset) / static_cast<float>(length));
  return static_cast<float>(std::log(static_cast<double>(steps) + 1.0) * static_cast<double>(scale) + 1.0);
}

}  // namespace odmoe
