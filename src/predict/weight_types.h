// The types that a predictor's weights can have in memory, by the names that the command line takes.
#pragma once

#include <ggml.h>

#include <string>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe {

// "f32", "f16", "q8_0", "q5_0", "q4_0", "q4_k".  kUsage naming these for anything else.
Result<ggml_type> weight_type(std::string_view name);

}  // namespace odmoe
