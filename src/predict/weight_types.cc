#include "predict/weight_types.h"

#include <array>
#include <utility>

namespace odmoe {

Result<ggml_type> weight_type(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, ggml_type>, 6> kTypes = {{
      {"f32", GGML_TYPE_F32},
      {"f16", GGML_TYPE_F16},
      {"q8_0", GGML_TYPE_Q8_0},
      {"q5_0", GGML_TYPE_Q5_0},
      {"q4_0", GGML_TYPE_Q4_0},
      {"q4_k", GGML_TYPE_Q4_K},
  }};
  for (const auto& [known, type] : kTypes) {
    if (name == known) return type;
  }
  return fail(ErrorKind::kUsage,
              "'{}' is not a type of a predictor's weights; use f32, f16, q8_0, q5_0, q4_0 or q4_k", name);
}

}  // namespace odmoe
