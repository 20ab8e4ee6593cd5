// How each family of vocabularies cuts text into words before the merges: tokenizer.ggml.pre.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/tokenizer/vocabulary.h"

namespace odmoe {

// A comment in an expression, at its beginning.
inline constexpr std::string_view kThrees = "(?#threes)";

struct SplitRule {
  // Applied in order, each to every piece that the one before left: its matches become pieces of their own.
  // In these expressions \s and \S mean Unicode's White_Space, \p{Han} the script itself.
  // Those that begin with kThrees find runs, each of which is cut in threes of characters, counted from its
  // end.
  std::span<const std::string_view> expressions;
  bool ignore_merges = false;   // a word that is a token as a whole is that token, whatever the merges say
  bool whole_newlines = false;  // the same of words that are newlines only
  bool add_bos = false;         // where the file does not say
  bool always_bos = false;      // whatever the file says
  TokenWriting writing = TokenWriting::kByteAlphabet;
};

// Null for a name that is not known.
const SplitRule* find_split_rule(std::string_view name);

// All names, for error messages: "a, b, c".
std::string known_split_rules();

}  // namespace odmoe
