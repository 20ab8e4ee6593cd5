#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <optional>

#include "base/byte_alphabet.h"

namespace odmoe {
namespace {

// Symbols are counted in 32 bits; a longer word is cut, which text never notices.
constexpr size_t kMaxWordBytes = size_t{1} << 30;
// Four for the symbols, and three halves of an entry for the heap.
static_assert(kMergeBytesPerByte == sizeof(Token) + sizeof(uint64_t) * 3 / 2);

}  // namespace

size_t BpeMerges::home(Token left, Token right) const {
  const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  // Fibonacci hashing: the high bits of the product depend on all bits of the key.
  return static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 32) & (slots_.size() - 1);
}

uint32_t BpeMerges::find_rank(Token left, Token right) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = home(left, right); slots_[at] != kNone; at = (at + 1) & mask) {
    const Merge& merge = merges_[slots_[at]];
    if (merge.left == left && merge.right == right) return slots_[at];
  }
  return kNone;
}

Result<BpeMerges> BpeMerges::build(const std::vector<std::string>& merges, const Vocabulary& vocabulary) {
  BpeMerges built;
  built.merges_.reserve(merges.size());
  built.slots_.assign(std::bit_ceil(std::max<size_t>(merges.size() * 2, 2)), kNone);
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view text = merges[i];
    const size_t space = text.find(' ', 1);  // the first character may not be the separator
    if (space == std::string_view::npos || space + 1 == text.size()) {
      return fail(ErrorKind::kBadFile, "merge {} is not a pair of tokens", i);
    }
    const std::optional<std::string> left = decode_byte_alphabet(text.substr(0, space));
    const std::optional<std::string> right = decode_byte_alphabet(text.substr(space + 1));
    if (!left.has_value() || !right.has_value()) {
      return fail(ErrorKind::kBadFile, "merge {} is not written in the byte alphabet", i);
    }
    joined = *left;
    joined += *right;
    const Merge merge = {vocabulary.find(*left), vocabulary.find(*right), vocabulary.find(joined)};
    if (merge.left < 0 || merge.right < 0 || merge.result < 0) {
      return fail(ErrorKind::kBadFile, "merge {} names what is not in the vocabulary", i);
    }
    const auto rank = static_cast<uint32_t>(built.merges_.size());
    built.merges_.push_back(merge);
    const size_t mask = built.slots_.size() - 1;
    size_t at = built.home(merge.left, merge.right);
    bool repeated = false;
    while (built.slots_[at] != kNone && !repeated) {
      const Merge& other = built.merges_[built.slots_[at]];
      repeated = other.left == merge.left && other.right == merge.right;
      at = (at + 1) & mask;
    }
    if (!repeated) built.slots_[at] = rank;  // of two equal merges the earlier one counts
  }
  return built;
}

void BpeMerges::encode(const Vocabulary& vocabulary, std::string_view word, Scratch* scratch,
                       std::vector<Token>* out) const {
  while (word.size() > kMaxWordBytes) {
    encode(vocabulary, word.substr(0, kMaxWordBytes), scratch, out);
    word.remove_prefix(kMaxWordBytes);
  }
  if (word.size() == 1) {
    out->push_back(vocabulary.byte_token(static_cast<uint8_t>(word[0])));
    return;
  }

  // A symbol is its token at its first byte and, if it has several, minus its length at its last: what comes
  // before and after it is found from these, and a byte of the word takes four.  A first byte that was merged
  // away is negative.  A pair waits in the heap under its rank and the place of its left symbol, so that the
  // lowest rank goes first and of equal ranks the leftmost.  Entries are not taken back when a neighbour
  // changes: an entry whose pair is no longer there is skipped.
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  symbols.clear();
  heap.clear();
  const auto n = static_cast<uint32_t>(word.size());
  symbols.reserve(n);
  for (const char byte : word) symbols.push_back(vocabulary.byte_token(static_cast<uint8_t>(byte)));
  const auto length = [&](uint32_t at) {
    return static_cast<uint32_t>(vocabulary.bytes(symbols[at]).size());
  };
  const auto entry_of = [&](uint32_t left) -> std::optional<uint64_t> {
    const uint32_t right = left + length(left);
    if (right >= n) return std::nullopt;
    const uint32_t rank = find_rank(symbols[left], symbols[right]);
    if (rank == kNone) return std::nullopt;
    return uint64_t{rank} << 32 | left;
  };
  // Of the pairs that are there no more than n wait, so that half of n is gained whenever this is called.
  const size_t most = size_t{n} + n / 2 + 1;
  heap.reserve(most);
  const auto offer = [&](uint32_t left) {
    const auto entry = entry_of(left);
    if (!entry) return;
    if (heap.size() == most) {
      std::erase_if(heap, [&](uint64_t old) { return !is_there(vocabulary, symbols, old); });
      std::ranges::make_heap(heap, std::greater<>());
    }
    heap.push_back(*entry);
    std::ranges::push_heap(heap, std::greater<>());
  };
  for (uint32_t i = 0; i + 1 < n; ++i) {
    if (const auto entry = entry_of(i)) heap.push_back(*entry);
  }
  std::ranges::make_heap(heap, std::greater<>());

  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const uint64_t entry = heap.back();
    heap.pop_back();
    if (!is_there(vocabulary, symbols, entry)) continue;
    const auto left = static_cast<uint32_t>(entry);
    const uint32_t right = left + length(left);
    const uint32_t end = right + length(right);
    symbols[right] = -1;
    symbols[left] = merges_[entry >> 32].result;
    symbols[end - 1] = -static_cast<Token>(end - left);
    if (left > 0) offer(symbols[left - 1] >= 0 ? left - 1 : left - static_cast<uint32_t>(-symbols[left - 1]));
    offer(left);
  }
  for (uint32_t i = 0; i < n; i += length(i)) out->push_back(symbols[i]);
}

bool BpeMerges::is_there(const Vocabulary& vocabulary, const std::vector<Token>& symbols,
                         uint64_t entry) const {
  const Merge& merge = merges_[entry >> 32];
  const auto left = static_cast<uint32_t>(entry);
  if (symbols[left] != merge.left) return false;
  const size_t right = left + vocabulary.bytes(merge.left).size();
  return right < symbols.size() && symbols[right] == merge.right;
}

}  // namespace odmoe
