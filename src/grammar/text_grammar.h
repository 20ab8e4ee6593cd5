// The strings that regular expressions and lengths allow, as grammars.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/characters.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_values.h"
#include "grammar/regex.h"
#include "grammar/text_automaton.h"

namespace odmoe::grammar {

// Of all that a string must be, states before they are laid out.
inline constexpr size_t kMaxTextStates = 16'384;
inline constexpr size_t kMaxTextEdges = 131'072;
inline constexpr size_t kMaxKnownTexts = 4;  // automata that are kept for takes()

// What a string must be: all of it.
struct TextRule {
  struct Condition {
    std::shared_ptr<const Regex> regex;
    bool negated = false;
  };
  std::vector<Condition> conditions;
  int64_t min_length = 0, max_length = -1;  // in code points; -1: any

  bool is_free() const { return conditions.empty() && min_length == 0 && max_length < 0; }
  void meet(const TextRule& other);
};

// Of the insides of JSON strings.  One owner, of one builder.
class TextGrammar {
 public:
  using Expression = GrammarBuilder::Expression;
  TextGrammar(GrammarBuilder& builder, JsonValues& values)
      : builder_(&builder), values_(&values), characters_(builder, CharacterGrammar::Spelling::kJsonString) {}
  // Of texts as they are.
  explicit TextGrammar(GrammarBuilder& builder)
      : builder_(&builder), characters_(builder, CharacterGrammar::Spelling::kPlain) {}

  // The inside of a JSON string, quotes apart, or the text as it is.  Without conditions a character may be
  // spelled in any way, else in one.  Nothing where no string fits.  Where lengths are bound from above and
  // the conditions are large, the longest strings may be left out.  kUsage: too large, or not known
  // (text_automaton.h).
  Result<std::optional<Expression>> inside(const TextRule& rule);
  // Whether the text is such a string.
  Result<bool> takes(const TextRule& rule, std::string_view text);

 private:
  struct Product;
  Expression any_character();
  Result<Product> product(const TextRule& rule);
  std::optional<Expression> laid_out(const Product& product, int64_t min, int64_t max);

  GrammarBuilder* builder_;
  JsonValues* values_ = nullptr;  // null: of texts as they are
  CharacterGrammar characters_;
  std::map<std::shared_ptr<const Regex>, std::pair<Alphabet, TextAutomaton>> known_;  // of takes()
};

// A text as it is, all of which the regular expression matches: ^ where a way begins and $ where it ends
// change nothing.  kUsage as parse_regex() and TextGrammar::inside(), and where it matches no text.
Result<GrammarBuilder::Expression> add_whole_pattern(GrammarBuilder& builder, std::string_view pattern);

}  // namespace odmoe::grammar
