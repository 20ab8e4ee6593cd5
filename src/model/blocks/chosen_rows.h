// What is made of numbers that an indexer chose for each token.
#pragma once

#include "model/graph.h"

namespace odmoe {

// values: [n, n_token], contiguous; chosen: i32 [n_chosen, n_token], rows of values.  Returns the values with
// `value` in the place of the chosen ones, written over them.
ggml_tensor* put_chosen(ggml_context* ctx, ggml_tensor* values, ggml_tensor* chosen, float value);

// Of a mask f16 [n_row, n_token] what of it is among `chosen`, or where that is null: all of it.
ggml_tensor* chosen_mask(ggml_context* ctx, ggml_tensor* mask, ggml_tensor* chosen);

}  // namespace odmoe
