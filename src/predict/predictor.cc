#include "predict/predictor.h"

#include <algorithm>

namespace odmoe {

void best_experts(std::span<const float> scores, std::span<int32_t> best) {
  // A heap of the best so far with the worst of them on top: the lists are short beside the scores.
  const auto better = [&](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const size_t n = std::min(best.size(), scores.size());
  if (n == 0) return;
  const std::span<int32_t> heap = best.first(n);
  for (size_t i = 0; i < n; ++i) heap[i] = static_cast<int32_t>(i);
  std::ranges::make_heap(heap, better);
  for (size_t i = n; i < scores.size(); ++i) {
    const auto expert = static_cast<int32_t>(i);
    if (!better(expert, heap.front())) continue;
    std::ranges::pop_heap(heap, better);
    heap.back() = expert;
    std::ranges::push_heap(heap, better);
  }
  std::ranges::sort_heap(heap, better);
}

}  // namespace odmoe
