// Regular expressions, as JSON schemas hold strings to them (keyword "pattern") and users whole answers.
//
// Known of ECMA-262's syntax: characters, . | ( ) (?: ) [ ] and [^ ] with ranges, the quantifiers * + ? {n}
// {n,} {n,m}, also lazy, which take the same; \d \w \s and their opposites, \t \n \r \f \v \0, \xHH, \uHHHH,
// a backslash before punctuation; ^ at the beginning and $ at the end of an alternative that is not in a
// group.  Characters are code points.  Anything else (back references, lookaround, \b, \p) is refused by
// name.
#pragma once

#include <string_view>

#include "grammar/grammar.h"

namespace odmoe::grammar {

inline constexpr size_t kMaxPatternBytes = 2000;
inline constexpr int kMaxPatternDepth = 32;  // of groups
inline constexpr int kMaxPatternRepeat = 1000;

// The inside of a JSON string, quotes apart, whose text the pattern matches.  Each character has one
// spelling: itself, or its escape where JSON wants one.  Where the pattern is not held by ^ or $, anything
// may stand before or after: `any_character` of a JSON string.  kUsage: what the pattern holds that is not
// known.
Result<GrammarBuilder::Expression> add_pattern(GrammarBuilder& builder, std::string_view pattern,
                                               GrammarBuilder::Expression any_character);

// A text, all of which the pattern matches, as it is: ^ and $ change nothing where they are allowed.  kUsage
// as above.
Result<GrammarBuilder::Expression> add_whole_pattern(GrammarBuilder& builder, std::string_view pattern);

}  // namespace odmoe::grammar
