// How many columns a dense product may have without rounding any of them otherwise than alone.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace odmoe {

// ggml chooses the kernel of ggml_mul_mat by how many columns the second operand has, and some of its kernels
// for many round otherwise than the one for one (ggml 0.27: K and IQ types as in a file from 8 columns on,
// those that CPU_REPACK has laid out from 4 on; others, and what is laid out for AMX, never).  It is the
// library's and the processor's affair, so it is tried out: a matrix of the type, the width and the layout of
// `weights`, a matrix [n_in, n_out] that has a buffer, times 1, 2, ... `most` columns of F32.
// Returns the largest number, 1 to most, up to which every column got the bits that it gets alone.  Takes
// milliseconds and a few MiB, which are given back.  Errors: kIo, no memory.
Result<int32_t> exact_columns(Backend& backend, const ggml_tensor* weights, int32_t most);

}  // namespace odmoe
