// How the tokens of a timeline were divided into evaluations.
//
// Kernels round differently for one token and for many.  So what is remembered of a token is, to the last
// bit, a matter of the tokens up to it and of how these were divided; two timelines of which both are the
// same remember the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace odmoe {

class Division {
 public:
  // Tokens up to `end` that were evaluated one by one, or in chunks counted from the first of them; the last
  // of these may be shorter.
  struct Stretch {
    int32_t end = 0;
    bool singly = false;
    bool operator==(const Stretch&) const = default;
  };

  // Of no tokens; `chunk` is EngineOptions::chunk.
  explicit Division(int32_t chunk) : chunk_(chunk) {}
  // Of the first `length` tokens of a text that is evaluated at once.
  static Division in_chunks(int32_t chunk, int32_t length);
  // Whether these are the stretches of a division: each has tokens, and no two of single ones stand together.
  static bool are_valid(std::span<const Stretch> stretches);
  // Requires are_valid(stretches).
  static Division of(int32_t chunk, std::span<const Stretch> stretches);

  int32_t chunk() const { return chunk_; }
  int32_t length() const { return stretches_.empty() ? 0 : stretches_.back().end; }
  std::span<const Stretch> stretches() const { return stretches_; }
  bool ends_singly() const { return !stretches_.empty() && stretches_.back().singly; }
  // Room for so many stretches, so that none of them allocates.
  void reserve(size_t n) { stretches_.reserve(n); }

  // n more tokens (n >= 1), of which an evaluation was made: in chunks, or one by one.
  void append(int32_t n, bool singly);
  // Leaves boundary(n) tokens; returns how many that is.
  int32_t truncate(int32_t n);

  // The most tokens, at most n, behind which an evaluation ends.
  int32_t boundary(int32_t n) const;
  // Where the evaluation of the token at `at` (0 <= at < length()), which begins one, ends.
  int32_t next(int32_t at) const;
  // Whether it is the evaluation of a single token.
  bool is_single(int32_t at) const { return next(at) == at + 1; }

  // How many of the first tokens were evaluated in whole chunks from the first on.
  int32_t whole_chunks() const;
  // The most tokens, at most n, that both divide alike and behind which in both an evaluation ends.
  int32_t shared(const Division& other, int32_t n) const;

  bool operator==(const Division&) const = default;

 private:
  size_t stretch_of(int32_t at) const;
  int32_t begin_of(size_t stretch) const { return stretch == 0 ? 0 : stretches_[stretch - 1].end; }

  int32_t chunk_;
  std::vector<Stretch> stretches_;  // in order
};

}  // namespace odmoe
