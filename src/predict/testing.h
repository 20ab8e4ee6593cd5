// Small helps for the tests of shadow models.
#pragma once

#include <cstddef>
#include <vector>

namespace odmoe {

using Vector = std::vector<float>;

// matrix: [x.size(), rows], row after row.
inline Vector multiply(const Vector& matrix, const Vector& x) {
  Vector y(matrix.size() / x.size());
  for (size_t row = 0; row < y.size(); ++row) {
    for (size_t i = 0; i < x.size(); ++i) y[row] += matrix[row * x.size() + i] * x[i];
  }
  return y;
}

}  // namespace odmoe
