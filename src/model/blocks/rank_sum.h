// Sums of what a token's chosen experts give, in the order in which they were chosen: the same bits whichever
// was there first.
#pragma once

#include <ggml.h>

#include <cstdint>

namespace odmoe {

// x: [n, n_rank, n_token].  Returns [n, n_token]; of one rank a view of x.
inline ggml_tensor* sum_ranks(ggml_context* ctx, ggml_tensor* x) {
  const auto rank = [&](int64_t r) {
    return ggml_view_2d(ctx, x, x->ne[0], x->ne[2], x->nb[2], x->nb[1] * static_cast<size_t>(r));
  };
  ggml_tensor* sum = rank(0);
  for (int64_t r = 1; r < x->ne[1]; ++r) sum = ggml_add(ctx, sum, rank(r));
  return sum;
}

}  // namespace odmoe
