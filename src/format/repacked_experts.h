// That experts of a checkpoint lie in a layout of ggml's for wider kernels (backend/repacked_layout.h), and
// what tells whether a machine's ggml has the same one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ggml.h"

namespace odmoe {

struct RepackedExperts {
  // A type and shape that matrices of experts have, and what the layout makes of a certain matrix of that
  // shape (RepackedLayout::fingerprint).
  struct Matrix {
    ggml_type type = GGML_TYPE_F32;
    int64_t n_in = 0, n_out = 0;
    uint64_t fingerprint = 0;
  };
  std::string layout;            // ggml's name of it: "CPU_REPACK"
  std::string ggml, processor;   // whose it was: version and kernels, for people
  std::vector<Matrix> matrices;  // each type and shape that is laid out so, once

  const Matrix* find(ggml_type type, int64_t n_in, int64_t n_out) const {
    for (const Matrix& matrix : matrices) {
      if (matrix.type == type && matrix.n_in == n_in && matrix.n_out == n_out) return &matrix;
    }
    return nullptr;
  }
};

}  // namespace odmoe
