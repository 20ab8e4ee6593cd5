// The grammar of JSON's own values.
#pragma once

#include <cstdint>
#include <optional>

#include "grammar/grammar_builder.h"

namespace odmoe::grammar {

// One owner; made for one builder, into which each value is put once.
class JsonValues {
 public:
  using Expression = GrammarBuilder::Expression;
  explicit JsonValues(GrammarBuilder& builder) : builder_(&builder) {}

  Expression any();     // value
  Expression object();  // any object
  Expression array();   // any array
  Expression string();
  Expression character();  // of a string
  Expression number();
  Expression integer();
  Expression non_negative_number();
  Expression boolean();
  Expression null() { return builder_->literal("null"); }
  // White space where people and models put some: nothing, a space, or a new line with its indent.
  Expression space();
  Expression comma();  // and the space behind it
  Expression colon();

 private:
  Expression once(std::optional<GrammarBuilder::Rule>& rule, Expression (JsonValues::*make)());
  Expression make_any();
  Expression make_object();
  Expression make_array();
  Expression make_string();
  Expression make_number();
  Expression make_integer();
  Expression make_space();
  Expression make_character();
  Expression digit() { return builder_->range('0', '9'); }
  Expression digits(int32_t min, int32_t max) { return builder_->repeat(digit(), min, max); }
  Expression fraction_and_exponent();

  GrammarBuilder* builder_;
  std::optional<GrammarBuilder::Rule> any_, object_, array_, string_, number_, integer_, space_, character_;
};

}  // namespace odmoe::grammar
