// Regular expressions, as JSON schemas hold strings to them (keyword "pattern"), read into a tree.
//
// Known of ECMA-262's syntax: characters, . | ( ) (?: ) (?<name> ) [ ] and [^ ] with ranges, the quantifiers
// * + ? {n} {n,} {n,m}, also lazy, which take the same; \d \w \s and their opposites, \p{...} and \P{...},
// \t \n \r \f \v \0, \cX, \xHH, \uHHHH, \u{...}, a backslash before punctuation; ^ $ \b \B, (?= ) (?! ) (?<=
// )
// (?<! ).  Of other dialects, where ECMA-262 has no meaning for it: (?P<name> ), \A \Z \z, {,m}, (?i) and
// (?s), and possessive quantifiers where they take what greedy ones do.  Characters are code points. Anything
// else (back references, atomic groups) is refused by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/characters.h"
#include "odmoe/result.h"

namespace odmoe::grammar {

inline constexpr size_t kMaxPatternBytes = 8192;
inline constexpr int kMaxPatternDepth = 50;  // of groups
inline constexpr int32_t kMaxPatternRepeat = 1'000'000;

struct Regex {
  using Index = uint32_t;
  struct Node {
    enum class Kind : uint8_t {
      kEmpty,
      kSet,
      kSequence,
      kChoice,
      kRepeat,    // of one child, min to max times; max -1: any number
      kStart,     // of the text
      kEnd,       // of the text
      kWordEdge,  // negated: no edge
      kAhead,     // the child follows here; negated: it does not
      kBehind,    // the child ends here; negated: it does not
    };
    Kind kind = Kind::kEmpty;
    bool negated = false;
    int32_t min = 0, max = 0;
    CharSet set;
    std::vector<Index> children;
  };
  std::vector<Node> nodes;
  Index root = 0;
  // What it matches is all that it should: not where letters match in both cases, of which Unicode knows more
  // than are known here.  Else it matches less.
  bool exact = true;

  Index add(Node node) {
    nodes.push_back(std::move(node));
    return static_cast<Index>(nodes.size() - 1);
  }
};

// kUsage: what the pattern holds that is not known.
Result<Regex> parse_regex(std::string_view pattern);
// ^(?:text|text...)$
Regex literal_regex(std::span<const std::string> texts);

}  // namespace odmoe::grammar
