// The types of weights that ggml can quantise to and experts may come in.
#pragma once

#include <ggml.h>

#include <vector>

namespace odmoe::testing {

inline std::vector<ggml_type> expert_types() {
  std::vector<ggml_type> types = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16};
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    // Two are for activations only.
    if (ggml_is_quantized(type) && type != GGML_TYPE_Q8_1 && type != GGML_TYPE_Q8_K) types.push_back(type);
  }
  return types;
}

}  // namespace odmoe::testing
