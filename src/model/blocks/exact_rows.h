// How many rows of one expert a kernel may be shown without rounding them otherwise than one alone.
#pragma once

#include <cstdint>

#include "backend/backend.h"
#include "backend/repacked_layout.h"
#include "base/fingerprint.h"

namespace odmoe {

// ggml chooses the kernel of ggml_mul_mat_id by how many rows of a call one expert has, and its kernels for
// many round otherwise than the one for one (ggml 0.27: K and IQ types from 8 rows on).  From where on is the
// library's and the processor's affair, so it is tried out: weights of this type, in rows of this length,
// times 1, 2, ... up to `most` rows of one expert.  `layout` is that of the weights; null: as in any file.
// Returns the largest number, 1 to most, up to which every row got the bits that it gets alone.  Takes
// milliseconds (tens of them for 64 rows of the widest experts) and a few MiB, which are given back.
// Errors: kIo, no memory.
Result<int32_t> exact_rows(Backend& backend, ggml_type type, int64_t n_in, int64_t n_out, int32_t most,
                           const RepackedLayout* layout = nullptr);

// Of the products of such weights with 1, 2, ... `most` rows, by ggml_mul_mat_id and, of what is laid out, by
// ggml_mul_mat too (model/blocks/experts.h), the same numbers on every machine: two machines that round
// otherwise anywhere in them have another one.  Takes as long as exact_rows(), or twice.  kIo: no memory.
Result<Fingerprint::Value> product_fingerprint(Backend& backend, ggml_type type, int64_t n_in, int64_t n_out,
                                               int32_t most, const RepackedLayout* layout = nullptr);

}  // namespace odmoe
