// A format's marks as expressions of a grammar.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "grammar/grammar_builder.h"
#include "odmoe/engine.h"

namespace odmoe::server {

// Borrows both.
class MarkGrammar {
 public:
  using Expression = grammar::GrammarBuilder::Expression;
  MarkGrammar(const Engine& engine, grammar::GrammarBuilder& builder) : engine_(&engine), b_(&builder) {}

  // A mark as the vocabulary has it: its control tokens as such, the rest as text.
  Expression written(std::string_view mark);
  // Any text in which the mark does not stand, and then the mark.
  Expression until(std::string_view mark);
  // Any text in which the mark does not stand.
  Expression without(std::string_view mark);
  // Spaces and line ends, at most so many.
  Expression spaces(int64_t most);

 private:
  struct Part {
    std::string_view text;
    Token token = -1;  // >= 0: this control token, which has this text
  };
  std::vector<Part> parts_of(std::string_view mark) const;
  Expression sequence_of(const std::vector<Part>& parts, size_t from);
  // Until the text stands there, or as long as it does not.
  Expression search(std::string_view text, bool found);

  const Engine* engine_;
  grammar::GrammarBuilder* b_;
};

}  // namespace odmoe::server
