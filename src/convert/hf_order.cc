#include "convert/hf_order.h"

namespace odmoe {

std::vector<int64_t> hf_rope_pairs(int64_t n, int64_t period, int64_t begin) {
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(n));
  const int64_t half = (period - begin) / 2;
  for (int64_t row = 0; row < n; ++row) {
    const int64_t i = row % period - begin;
    order.push_back(i < 0 ? row : row - i + i / 2 + (i % 2) * half);
  }
  return order;
}

std::vector<int64_t> hf_every_second(int64_t n) {
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order.push_back(2 * i);
  return order;
}

std::vector<int64_t> hf_heads_in_turn(int64_t n_key_head, int64_t n_value_head) {
  std::vector<int64_t> order;
  if (n_value_head == n_key_head) return order;
  const int64_t of_key = n_value_head / n_key_head;
  order.reserve(static_cast<size_t>(n_value_head));
  for (int64_t i = 0; i < n_value_head; ++i) order.push_back(i % n_key_head * of_key + i / n_key_head);
  return order;
}

std::vector<int64_t> hf_order_of_heads(const std::vector<int64_t>& heads, int64_t width, int64_t before) {
  std::vector<int64_t> order;
  if (heads.empty()) return order;
  order.reserve(static_cast<size_t>(before) + heads.size() * static_cast<size_t>(width));
  for (int64_t i = 0; i < before; ++i) order.push_back(i);
  for (const int64_t head : heads) {
    for (int64_t i = 0; i < width; ++i) order.push_back(before + head * width + i);
  }
  return order;
}

void hf_append_parts(std::vector<int64_t>& order, int64_t n, int64_t period, int64_t begin, int64_t width) {
  for (int64_t group = 0; group < n; ++group) {
    for (int64_t i = 0; i < width; ++i) order.push_back(group * period + begin + i);
  }
}

}  // namespace odmoe
