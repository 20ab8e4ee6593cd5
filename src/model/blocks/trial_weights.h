// Weights and operands to try kernels out with.
#pragma once

#include <ggml-cpp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

#include "odmoe/result.h"

namespace odmoe {

// -1 to 1.
float uniform(std::mt19937& random);

// `bytes` become `n` values of a type, rows of any file's layout; none is infinite or NaN.
void fill_weights(ggml_type type, int64_t n, std::span<std::byte> bytes, std::mt19937& random);

// Rows of a matrix [n_in, n_out] that are tried with 1, 2, ... `most` columns: whole groups of what kernels
// take at once, and the rest that the real matrix has; for each of `n_thread` as many as ggml divides a large
// matrix into, since of fewer it makes pieces of odd numbers of rows, for which it has other kernels (ARM
// with i8mm).  More would find nothing else, since every output is a sum of its own.
int64_t tried_rows(int64_t n_in, int64_t n_out, int32_t most, int n_thread);

// Up to which number, 1 to most, a trial's same_together(1), (2), ... say that several in one call get the
// bits that each gets alone.
template <typename Trial>
Result<int32_t> most_alike(Trial& trial, int32_t most) {
  for (int32_t n = 1; n <= most; ++n) {
    ODMOE_ASSIGN_OR_RETURN(const bool same, trial.same_together(n));
    if (!same) return std::max(n - 1, 1);
  }
  return most;
}

}  // namespace odmoe
