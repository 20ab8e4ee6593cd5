#include "model/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "base/utf8.h"

namespace odmoe {

size_t BpeMerges::home(Token left, Token right) const {
  const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  // Fibonacci hashing: the high bits of the product depend on all bits of the key.
  return static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 32) & (slots_.size() - 1);
}

uint32_t BpeMerges::find_rank(Token left, Token right) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = home(left, right); slots_[at] != kNoRank; at = (at + 1) & mask) {
    const Merge& merge = merges_[slots_[at]];
    if (merge.left == left && merge.right == right) return slots_[at];
  }
  return kNoRank;
}

Result<BpeMerges> BpeMerges::build(const std::vector<std::string>& merges, const Vocabulary& vocabulary) {
  BpeMerges built;
  built.merges_.reserve(merges.size());
  built.slots_.assign(std::bit_ceil(std::max<size_t>(merges.size() * 2, 2)), kNoRank);
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view text = merges[i];
    const size_t space = text.find(' ', 1);  // the first character may not be the separator
    if (space == std::string_view::npos || space + 1 == text.size()) {
      return fail(ErrorKind::kBadFile, "merge {} is not a pair of tokens", i);
    }
    const std::optional<std::string> left = vocabulary.decode(text.substr(0, space));
    const std::optional<std::string> right = vocabulary.decode(text.substr(space + 1));
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
    while (built.slots_[at] != kNoRank && !repeated) {
      const Merge& other = built.merges_[built.slots_[at]];
      repeated = other.left == merge.left && other.right == merge.right;
      at = (at + 1) & mask;
    }
    if (!repeated) built.slots_[at] = rank;  // of two equal merges the earlier one counts
  }
  return built;
}

struct BpeMerges::Pairs {
  const BpeMerges* merges;
  const Vocabulary* vocabulary;

  uint32_t length(Token token) const { return static_cast<uint32_t>(vocabulary->bytes(token).size()); }
  uint32_t rank(uint32_t /*at*/, Token left, Token right) const { return merges->find_rank(left, right); }
  bool is(uint32_t rank, uint32_t /*at*/, Token left, Token right) const {
    return merges->merges_[rank].left == left && merges->merges_[rank].right == right;
  }
  Token merged(uint32_t rank, Token /*left*/, Token /*right*/) const { return merges->merges_[rank].result; }
};

void BpeMerges::encode(const Vocabulary& vocabulary, std::string_view word, MergeScratch* scratch,
                       std::vector<Token>* out) const {
  while (word.size() > kMaxMergedBytes) {
    encode(vocabulary, word.substr(0, kMaxMergedBytes), scratch, out);
    word.remove_prefix(kMaxMergedBytes);
  }
  const bool of_bytes = vocabulary.writing() == TokenWriting::kByteAlphabet;
  if (of_bytes && word.size() == 1) {
    out->push_back(vocabulary.byte_token(static_cast<uint8_t>(word[0])));
    return;
  }
  const auto n = static_cast<uint32_t>(word.size());
  scratch->symbols.resize(n);
  for (uint32_t at = 0; at < n;) {
    const Utf8Char c = of_bytes ? Utf8Char{} : read_utf8(word.substr(at));
    Token token = c.valid ? vocabulary.find(word.substr(at, c.length)) : -1;
    const uint32_t length = token >= 0 ? static_cast<uint32_t>(c.length) : 1;
    if (token < 0) token = vocabulary.byte_token(static_cast<uint8_t>(word[at]));
    scratch->put(at, length, token);
    at += length;
  }
  const Pairs pairs{.merges = this, .vocabulary = &vocabulary};
  merge_pairs(scratch, pairs);
  for (uint32_t i = 0; i < n; i += pairs.length(scratch->symbols[i])) out->push_back(scratch->symbols[i]);
}

}  // namespace odmoe
