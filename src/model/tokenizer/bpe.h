// Byte-pair encoding: a word's bytes, merged pair by pair in the order that the vocabulary was learned in.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/vocabulary.h"
#include "odmoe/encode_limits.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable, so thread-safe.
class BpeMerges {
 public:
  // Space that encode() uses, to be kept from word to word: kMergeBytesPerByte for each byte of the longest.
  // One owner.
  struct Scratch {
    std::vector<Token> symbols;  // [bytes of the word], see encode()
    std::vector<uint64_t> heap;  // rank << 32 | where the left symbol begins
  };

  // `merges` as the file has them: "LEFT RIGHT" in the byte alphabet, the earliest first.
  // kBadFile, beginning "merge N ", when one is not of that form or names what is no token.
  static Result<BpeMerges> build(const std::vector<std::string>& merges, const Vocabulary& vocabulary);

  // Appends the tokens of one word.  O(n log n) in its length, however long it is.
  void encode(const Vocabulary& vocabulary, std::string_view word, Scratch* scratch,
              std::vector<Token>* out) const;

 private:
  struct Merge {
    Token left;
    Token right;
    Token result;
  };
  static constexpr uint32_t kNone = UINT32_MAX;

  BpeMerges() = default;
  uint32_t find_rank(Token left, Token right) const;
  bool is_there(const Vocabulary& vocabulary, const std::vector<Token>& symbols, uint64_t entry) const;
  size_t home(Token left, Token right) const;

  std::vector<Merge> merges_;    // by rank
  std::vector<uint32_t> slots_;  // ranks, open addressing, a power of two; kNone: free
};

}  // namespace odmoe
