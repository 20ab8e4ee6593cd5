// Byte-pair encoding: a word's bytes, or its characters, merged pair by pair in the order that the vocabulary
// was learned in.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/pair_merges.h"
#include "model/tokenizer/vocabulary.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable, so thread-safe.
class BpeMerges {
 public:
  // `merges` as the file has them: "LEFT RIGHT" as the vocabulary's tokens are written, the earliest first.
  // kBadFile, beginning "merge N ", when one is not of that form or names what is no token.
  static Result<BpeMerges> build(const std::vector<std::string>& merges, const Vocabulary& vocabulary);

  // Appends the tokens of one word.  A vocabulary in the byte alphabet begins with its bytes; one that writes
  // text as it is begins with its characters, those of one that is no token.
  void encode(const Vocabulary& vocabulary, std::string_view word, MergeScratch* scratch,
              std::vector<Token>* out) const;

 private:
  struct Merge {
    Token left;
    Token right;
    Token result;
  };
  struct Pairs;

  BpeMerges() = default;
  uint32_t find_rank(Token left, Token right) const;
  size_t home(Token left, Token right) const;

  std::vector<Merge> merges_;    // by rank
  std::vector<uint32_t> slots_;  // ranks, open addressing, a power of two; kNoRank: free
};

}  // namespace odmoe
