// Regular expressions as deterministic automata over characters, so that they can be intersected, turned into
// their opposites and asked whether a text is of them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "grammar/characters.h"
#include "grammar/regex.h"
#include "grammar/work.h"
#include "odmoe/result.h"

namespace odmoe::grammar {

inline constexpr size_t kMaxSymbols = 4096;
inline constexpr size_t kMaxThreads = 20'000;  // states of a regular expression before it is deterministic
inline constexpr size_t kMaxTextTransitions = 1 << 20;  // of one automaton, 4 bytes each
inline constexpr size_t kMaxTextThreads = 1 << 17;      // of all its states together while it is made

// Characters that no expression tells from each other are one symbol.  Immutable.
class Alphabet {
 public:
  // Nothing when there are more than kMaxSymbols, or the work is over.
  static std::optional<Alphabet> of(std::span<const Regex* const> regexes, Work& work);

  size_t size() const { return symbols_.size(); }
  const CharSet& characters(uint32_t symbol) const { return symbols_[symbol]; }
  uint32_t symbol_of(uint32_t character) const;
  // By symbol: whether its characters are of a set that one of the expressions names, or word characters.
  std::vector<bool> symbols_in(const CharSet& set) const;

 private:
  std::vector<CharSet> symbols_;
  std::vector<uint32_t> firsts_, symbol_at_;  // of intervals, in their order
};

// Complete: every state has a next one for every symbol.  State 0 is the start.
struct TextAutomaton {
  size_t n_symbol = 0;
  std::vector<uint32_t> next;  // [states, symbols]
  std::vector<bool> accepts;

  size_t n_state() const { return accepts.size(); }
  uint32_t after(uint32_t state, uint32_t symbol) const { return next[state * n_symbol + symbol]; }
  bool takes(std::string_view text, const Alphabet& alphabet) const;  // false when it is not UTF-8
  // By state: whether a text that is taken can follow.
  std::vector<bool> alive() const;
};

// Texts in which the expression matches somewhere.  kUsage: it is too large, or holds what is not known here:
// (?= ) or \b in (?<= ), and (?<= ) in (?= ).
Result<TextAutomaton> determinize(const Regex& regex, const Alphabet& alphabet, Work& work);

}  // namespace odmoe::grammar
