// SentencePiece's merging, as llama.cpp has it for the tokenizer model "llama": of all neighbours whose
// text together is a token, those of the best score become one, again and again; what is no token then is
// written in single bytes.
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/tokenizer/pair_merges.h"
#include "model/tokenizer/vocabulary.h"
#include "odmoe/result.h"

namespace odmoe {

// Where text may be cut so that nothing merges across: between two bytes that no token has beside each other.
// Immutable once filled, so thread-safe.
class Joints {
 public:
  void add(std::string_view token);
  bool holds(char left, char right) const { return pairs_[index(left, right)]; }

  // The first part of `text`, which is not empty: up to where nothing can merge with what follows.
  std::string_view first_part(std::string_view text) const;

 private:
  static size_t index(char left, char right) {
    return size_t{static_cast<uint8_t>(left)} << 8 | static_cast<uint8_t>(right);
  }
  std::bitset<size_t{1} << 16> pairs_;
};

// Immutable, so thread-safe.
class SpmScores {
 public:
  // `scores` as the file has them, one for each token, none NaN.  kBadFile, beginning "the vocabulary ".
  static Result<SpmScores> build(std::span<const float> scores, const Vocabulary& vocabulary);

  // Appends the tokens of a piece of text.  Control, user-defined and byte tokens are none that text merges
  // to.
  void encode(const Vocabulary& vocabulary, std::string_view text, MergeScratch* scratch,
              std::vector<Token>* out) const;

 private:
  struct Pairs;
  SpmScores() = default;
  Token find(const Vocabulary& vocabulary, std::string_view text) const;

  std::vector<uint32_t> ranks_;  // [tokens] the better the score the lower; equal scores are equal
  size_t longest_ = 0;           // bytes of the longest token
};

}  // namespace odmoe
