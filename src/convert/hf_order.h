// Orders in which rows or columns of a checkpoint are taken for GGUF: element i of an order says which of the
// checkpoint's is the i-th of what is made.
#pragma once

#include <cstdint>
#include <vector>

namespace odmoe {

// Rows of RoPE in halves made adjacent pairs: of every `period` of `n` rows, those from `begin` on.  Pair i
// is (i, i + n/2) in the checkpoint and (2i, 2i + 1) in GGUF.
std::vector<int64_t> hf_rope_pairs(int64_t n, int64_t period, int64_t begin);

// 0, 2, 4, ...: the first of two that alternate.
std::vector<int64_t> hf_every_second(int64_t n);

// Value heads that stand by key head, as GGUF's readers that deal them out in turn want them: key heads 0, 1,
// .. each with its first value head, then each with its second.  Empty when each key head has only one.
std::vector<int64_t> hf_heads_in_turn(int64_t n_key_head, int64_t n_value_head);

// The same of elements: each head's `width` together, behind `before` elements that stay where they are.
std::vector<int64_t> hf_order_of_heads(const std::vector<int64_t>& heads, int64_t width, int64_t before);

// Part [begin, begin + width) of each of n groups of `period`, one after another.
void hf_append_parts(std::vector<int64_t>& order, int64_t n, int64_t period, int64_t begin, int64_t width);

}  // namespace odmoe
