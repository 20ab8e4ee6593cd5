// What merging is in every vocabulary: of all pairs of symbols that stand beside each other the best one
// becomes one symbol, the leftmost of equals, again and again.  O(n log n) in the length, however long it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "model/tokenizer/vocabulary.h"
#include "odmoe/encode_limits.h"

namespace odmoe {

// Space that merging uses, to be kept from word to word: kMergeBytesPerByte for each byte of the longest.
// One owner.
struct MergeScratch {
  // [bytes of the word]: a symbol's value at its first byte and, if it has several, minus its length at its
  // last.  What comes before and after it is found from these, and a byte of the word takes four.  A first
  // byte that was merged away is negative.
  std::vector<int32_t> symbols;
  // rank << 32 | where the left symbol begins: the lowest rank goes first and of equal ranks the leftmost.
  // Entries are not taken back when a neighbour changes: an entry whose pair is no longer there is skipped.
  std::vector<uint64_t> heap;

  void put(uint32_t at, uint32_t length, int32_t value) {
    symbols[at] = value;
    if (length > 1) {
      symbols[at + 1] = -1;
      symbols[at + length - 1] = -static_cast<int32_t>(length);
    }
  }
};
// Four for the symbols, and three halves of an entry for the heap.
static_assert(kMergeBytesPerByte == sizeof(int32_t) + sizeof(uint64_t) * 3 / 2);

// Symbols are counted in 32 bits; a longer text is cut, which text never notices.
inline constexpr size_t kMaxMergedBytes = size_t{1} << 30;

inline constexpr uint32_t kNoRank = UINT32_MAX;

// Merges the symbols that are in `scratch`.  `Pairs` says what they are; values are never negative:
//   uint32_t length(int32_t value)                           in bytes
//   uint32_t rank(uint32_t at, int32_t left, int32_t right)  of the pair that begins at byte `at`; kNoRank
//   bool is(uint32_t rank, uint32_t at, int32_t left, int32_t right)  whether rank() would be `rank`
//   int32_t merged(uint32_t rank, int32_t left, int32_t right)        the symbol that the pair becomes
template <typename Pairs>
void merge_pairs(MergeScratch* scratch, const Pairs& pairs) {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto n = static_cast<uint32_t>(symbols.size());
  heap.clear();
  const auto entry_of = [&](uint32_t left) -> std::optional<uint64_t> {
    const uint32_t right = left + pairs.length(symbols[left]);
    if (right >= n) return std::nullopt;
    const uint32_t rank = pairs.rank(left, symbols[left], symbols[right]);
    if (rank == kNoRank) return std::nullopt;
    return uint64_t{rank} << 32 | left;
  };
  const auto is_there = [&](uint64_t entry) {
    const auto left = static_cast<uint32_t>(entry);
    if (symbols[left] < 0) return false;
    const uint32_t right = left + pairs.length(symbols[left]);
    return right < n && pairs.is(static_cast<uint32_t>(entry >> 32), left, symbols[left], symbols[right]);
  };
  // Of the pairs that are there no more than n wait, so that half of n is gained whenever this is called.
  const size_t most = size_t{n} + n / 2 + 1;
  heap.reserve(most);
  const auto offer = [&](uint32_t left) {
    const auto entry = entry_of(left);
    if (!entry) return;
    if (heap.size() == most) {
      std::erase_if(heap, [&](uint64_t old) { return !is_there(old); });
      std::ranges::make_heap(heap, std::greater<>());
    }
    heap.push_back(*entry);
    std::ranges::push_heap(heap, std::greater<>());
  };
  for (uint32_t i = 0; i < n; i += pairs.length(symbols[i])) {
    if (const auto entry = entry_of(i)) heap.push_back(*entry);
  }
  std::ranges::make_heap(heap, std::greater<>());

  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const uint64_t entry = heap.back();
    heap.pop_back();
    if (!is_there(entry)) continue;
    const auto left = static_cast<uint32_t>(entry);
    const uint32_t right = left + pairs.length(symbols[left]);
    const uint32_t end = right + pairs.length(symbols[right]);
    const int32_t merged = pairs.merged(static_cast<uint32_t>(entry >> 32), symbols[left], symbols[right]);
    symbols[right] = -1;
    symbols[left] = merged;
    symbols[end - 1] = -static_cast<int32_t>(end - left);
    if (left > 0) offer(symbols[left - 1] >= 0 ? left - 1 : left - static_cast<uint32_t>(-symbols[left - 1]));
    offer(left);
  }
}

}  // namespace odmoe
