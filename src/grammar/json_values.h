// The grammar of JSON's own values.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "grammar/grammar.h"

namespace odmoe::grammar {

// One owner; made for one builder, into which each value is put once.
class JsonValues {
 public:
  using Expression = GrammarBuilder::Expression;
  explicit JsonValues(GrammarBuilder& builder) : builder_(&builder) {}

  Expression any();     // value
  Expression object();  // any object
  Expression array();   // any array
  Expression string() { return string(0, -1); }
  Expression character();                                     // of a string
  Expression string(int32_t min_length, int32_t max_length);  // in characters; -1: any number
  Expression number();
  Expression integer();
  Expression integer(std::optional<int64_t> min, std::optional<int64_t> max);
  Expression non_negative_number();
  // Digits, as many as both bounds have, from `low` to `high`.
  Expression same_length_range(std::string_view low, std::string_view high);
  Expression boolean();
  Expression null() { return builder_->literal("null"); }
  // A string of a known form, quotes included; nothing for a form that is not known.
  std::optional<Expression> format(std::string_view name);

  // White space where people and models put some: nothing, a space, or a new line with its indent.
  Expression space();
  Expression comma();  // and the space behind it
  Expression colon();

 private:
  Expression once(std::optional<GrammarBuilder::Rule>& rule, Expression (JsonValues::*make)());
  Expression make_any();
  Expression make_object();
  Expression make_array();
  Expression make_number();
  Expression make_integer();
  Expression make_space();
  Expression make_character();
  Expression digit() { return builder_->range('0', '9'); }
  Expression digits(int32_t min, int32_t max) { return builder_->repeat(digit(), min, max); }
  Expression fraction_and_exponent();
  Expression non_negative_range(uint64_t low, uint64_t high);

  GrammarBuilder* builder_;
  std::optional<GrammarBuilder::Rule> any_, object_, array_, number_, integer_, space_, character_;
};

}  // namespace odmoe::grammar
