#include "engine/layer_demand.h"

#include <algorithm>
#include <cassert>

namespace odmoe {

LayerDemand::LayerDemand(int32_t n_expert, int32_t n_expert_used, int64_t max_tokens)
    : n_expert_used_(n_expert_used),
      pairs_(static_cast<size_t>(max_tokens * n_expert_used)),
      begin_(static_cast<size_t>(n_expert) + 1) {
  experts_.reserve(static_cast<size_t>(n_expert));
}

void LayerDemand::set(int layer, std::span<const int32_t> chosen, std::span<const int32_t> columns) {
  assert(chosen.size() == columns.size() * static_cast<size_t>(n_expert_used_) &&
         chosen.size() <= pairs_.size());
  layer_ = layer;
  chosen_ = chosen;
  columns_ = columns;
  n_token_ = std::ssize(columns);
  const size_t n_expert = begin_.size() - 1;
  std::ranges::fill(begin_, 0);
  experts_.clear();
  for (const int32_t expert : chosen) {
    if (begin_[static_cast<size_t>(expert) + 1]++ == 0) experts_.push_back(expert);
  }
  for (size_t e = 0; e < n_expert; ++e) begin_[e + 1] += begin_[e];
  // Filling moves every begin to its end, which is the next one's begin: shifted back afterwards.
  for (size_t t = 0; t < columns.size(); ++t) {
    for (int32_t rank = 0; rank < n_expert_used_; ++rank) {
      const auto expert =
          static_cast<size_t>(chosen[t * static_cast<size_t>(n_expert_used_) + static_cast<size_t>(rank)]);
      pairs_[static_cast<size_t>(begin_[expert]++)] = {.column = columns[t], .rank = rank};
    }
  }
  for (size_t e = n_expert; e > 0; --e) begin_[e] = begin_[e - 1];
  begin_[0] = 0;
}

}  // namespace odmoe
