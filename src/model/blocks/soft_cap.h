// A limit that values come near to and never reach (Gemma 2, arXiv:2408.00118).
#pragma once

#include <ggml.h>

namespace odmoe {

// cap tanh(scale x / cap), cap > 0.
inline ggml_tensor* soft_cap(ggml_context* ctx, ggml_tensor* x, float cap, float scale = 1) {
  return ggml_scale(ctx, ggml_tanh(ctx, ggml_scale(ctx, x, scale / cap)), cap);
}

}  // namespace odmoe
