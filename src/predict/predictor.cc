#include "predict/predictor.h"

#include <utility>

namespace odmoe {

void best_experts(std::span<const float> scores, std::span<int32_t> best) {
  if (best.empty()) return;
  const auto score_of = [&](int32_t expert) { return scores[static_cast<size_t>(expert)]; };
  // The best so far in order; most of what comes is worse than the last of them.
  size_t n = 0;
  for (int32_t expert = 0; std::cmp_less(expert, scores.size()); ++expert) {
    const float score = score_of(expert);
    if (n == best.size() && score <= score_of(best.back())) continue;
    size_t place = n < best.size() ? n++ : n - 1;
    for (; place > 0 && score > score_of(best[place - 1]); --place) best[place] = best[place - 1];
    best[place] = expert;
  }
}

}  // namespace odmoe
