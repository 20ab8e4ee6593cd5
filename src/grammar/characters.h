// Sets of characters, and how they are written: in a JSON string, or as they are.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/grammar_builder.h"

namespace odmoe::grammar {

inline constexpr uint32_t kLastCharacter = 0x10FFFF;

struct CharRange {
  uint32_t first = 0, last = 0;
  auto operator<=>(const CharRange&) const = default;
};
// Of code points; sorted, apart from each other by at least one.  normal() makes it so.
using CharSet = std::vector<CharRange>;

CharSet normal(CharSet ranges);
CharSet inverse(const CharSet& set);
bool contains(const CharSet& set, uint32_t character);
bool intersect(const CharSet& a, const CharSet& b);
// With the other case of every ASCII letter.
CharSet with_other_case(CharSet set);

// ECMA-262's classes: \d, \w, \s, and the ends of lines.
extern const CharSet kDigitSet, kWordSet, kSpaceSet, kLineEndSet;

// Of Unicode, by a name as in \p{NAME}: a general category, a script, a binary property.  Nothing for a name
// that PCRE2 does not know.
std::optional<CharSet> unicode_property(std::string_view name);

// The next character of a text; nothing where it is not UTF-8.
std::optional<uint32_t> next_character(std::string_view& text);

// Characters as they stand in a text.  In a JSON string each has one spelling, itself or its escape where
// JSON wants one.  Surrogates are not characters.  One owner, of one builder.
class CharacterGrammar {
 public:
  using Expression = GrammarBuilder::Expression;
  enum class Spelling { kJsonString, kPlain };
  CharacterGrammar(GrammarBuilder& builder, Spelling spelling) : builder_(&builder), spelling_(spelling) {}

  // One of the set; of an empty set nothing.
  Expression one_of(const CharSet& set);

 private:
  struct ByteRange {
    uint8_t first = 0, last = 0;
    auto operator<=>(const ByteRange&) const = default;
  };
  using Bytes = std::vector<ByteRange>;  // of one length of UTF-8
  static void split(std::string_view first, std::string_view last, Bytes prefix, std::vector<Bytes>& out);
  Expression tails(const std::vector<Bytes>& texts);

  GrammarBuilder* builder_;
  Spelling spelling_;
  std::map<CharSet, Expression> known_;
  std::map<std::vector<Bytes>, Expression> known_tails_;
};

}  // namespace odmoe::grammar
