// Queries that grow with their position (Mistral Large 3, Llama 4), so that attention to many tokens stays
// sharp.
#pragma once

#include <cstdint>

namespace odmoe {

// Times 1 + scale ln(1 + floor((position + offset) / length)).
struct QueryTemperature {
  float scale = 0;  // 0: not at all
  uint32_t length = 0;
  float offset = 0;
  float at(int64_t position) const;
};

}  // namespace odmoe
