#include "format/tensor_info.h"

namespace odmoe {

bool holds_data(ggml_type type) { return ggml_blck_size(type) > 0 && ggml_type_size(type) > 0; }

std::optional<ggml_type> find_ggml_type(std::string_view name) {
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    if (holds_data(type) && name == ggml_type_name(type)) return type;
  }
  return std::nullopt;
}

}  // namespace odmoe
