// Which tokens a grammar allows next, found by walking the whole vocabulary through its automaton.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/grammar.h"

namespace odmoe::grammar {

// The tokens of a model in the order of their bytes, so that what they begin with is looked at once.
// Immutable, so thread-safe; may be used by many grammars.  Takes the bytes of all tokens and 12 more each.
class Vocabulary {
 public:
  // `bytes` gives a token's bytes, empty for a control token; `is_end` says whether it ends a text.
  Vocabulary(int32_t n_token, const std::function<std::string(int32_t)>& bytes,
             const std::function<bool(int32_t)>& is_end);

  struct Entry {
    uint32_t begin = 0;   // in bytes()
    uint16_t length = 0;  // at most kMaxTokenBytes; longer tokens are left out
    uint16_t shared = 0;  // with the entry before
    int32_t token = 0;
  };
  int32_t n_token() const { return n_token_; }
  std::span<const Entry> entries() const { return entries_; }
  std::string_view bytes(const Entry& entry) const {
    return std::string_view(bytes_).substr(entry.begin, entry.length);
  }
  // Of any token; empty: a control token.
  std::string_view bytes_of(int32_t token) const;
  std::span<const int32_t> end_tokens() const { return ends_; }

 private:
  int32_t n_token_;
  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<int32_t> entry_of_;  // [n_token], -1: none
  std::vector<int32_t> ends_;
};

inline constexpr size_t kMaxTokenBytes = 1024;
inline constexpr size_t kMaxMasks = 256;               // kept, one bit per token each
inline constexpr size_t kMaxAutomatonBytes = 4 << 20;  // of the states of one text, twice that for a moment
// Of one mask, in places looked at, some 20 ns each.  Beyond it only tokens of one byte are looked at, of
// which there are few: others are not drawn, which leaves what is written within the grammar.
inline constexpr uint64_t kMaxMaskWork = 1 << 24;

// What a Matcher takes at most, of a vocabulary of so many tokens.
constexpr size_t max_matcher_bytes(size_t n_token) {
  return 2 * kMaxAutomatonBytes + kMaxMasks * (n_token / 8 + 64);
}

// A grammar and the vocabulary that it is written with.  Immutable, so thread-safe.
struct TokenMasks {
  std::shared_ptr<const Grammar> grammar;
  std::shared_ptr<const Vocabulary> vocabulary;
  std::string begun = {};  // what was written already; the grammar must allow it (may_begin())
};

// Whether a text of the grammar may begin with these bytes.
bool may_begin(const std::shared_ptr<const Grammar>& grammar, std::string_view bytes);

// Follows one text.  One owner.  Masks of states that come again (inside of a string, say) are kept.
class Matcher {
 public:
  explicit Matcher(const TokenMasks& masks);

  // Sets the logits [n_token] of what may not come next to -infinity.  Where the grammar may end, tokens that
  // end a text may come.
  void mask(std::span<float> logits);
  // Whether mask() leaves this token; whether it leaves any.  It need not leave one: a vocabulary may lack
  // the bytes that must follow.
  bool allows(int32_t token);
  bool allows_any();
  // The token was chosen, one that mask() left.  False when the text is complete with it, so that nothing
  // more may follow.
  bool accept(int32_t token);
  // The same with bytes that no mask was asked for: false, and nothing changes, when they may not come next.
  bool accept_bytes(std::string_view bytes);
  // Whether the text so far is of the grammar.
  bool complete() const { return automaton_.accepts(state_); }
  // The bytes that may come next, whether the vocabulary can write them or not.
  ByteSet next_bytes();

 private:
  const std::vector<uint64_t>& allowed();

  std::shared_ptr<const Vocabulary> vocabulary_;
  Automaton automaton_;
  int32_t state_ = 0;
  std::unordered_map<int32_t, std::vector<uint64_t>> allowed_;  // by state, a bit per token
};

}  // namespace odmoe::grammar
