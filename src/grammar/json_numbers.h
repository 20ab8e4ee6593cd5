// Grammars of numbers: between bounds, multiples, integers and others.
//
// What is written under a bound or a multiple is exact under a reader of decimals and under one of doubles
// alike: numbers that are not integers have at most kMaxSignificant digits, and no two decimals of so few
// round to the same double.  They have no exponent.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "grammar/decimal.h"
#include "grammar/grammar_builder.h"
#include "grammar/json_values.h"

namespace odmoe::grammar {

inline constexpr int32_t kMaxSignificant = 15;
inline constexpr int32_t kMaxWholeDigits = 18;        // of integers whose bounds do not ask for more
inline constexpr size_t kMaxBoundDigits = 20;         // of bounds that are held to the digit: 64 bits
inline constexpr int64_t kMaxFactor = 1000;           // of multiples, times a power of ten
inline constexpr int64_t kMaxListedMultiples = 1000;  // between two bounds, of other factors
inline constexpr size_t kMaxNumberStates = 32'768;

// What a number must be: all of it.
struct NumberRule {
  std::optional<Decimal> min, max;
  bool above_min = false, below_max = false;  // the bound itself is not meant
  bool integral = false, fractional = false;  // both: none is
  std::vector<Decimal> factors;               // above zero; it is a multiple of each
  std::vector<Decimal> excluded;

  void at_least(const Decimal& bound, bool exclusive);
  void at_most(const Decimal& bound, bool exclusive);
  void meet(const NumberRule& other);
  bool is_free() const;
  bool is_empty() const;  // by its bounds and kinds, factors apart
  bool takes(const Decimal& number) const;
};

// One owner, of one builder, as JsonValues.
class JsonNumbers {
 public:
  using Expression = GrammarBuilder::Expression;
  JsonNumbers(GrammarBuilder& builder, JsonValues& values) : builder_(&builder), values_(&values) {}

  // Nothing where no number can be written.  kUsage, naming multipleOf, where its factor is too large.
  Result<std::optional<Expression>> number(const NumberRule& rule);

 private:
  struct Factor {
    int64_t units = 1;
    int32_t exponent = 0;
  };
  struct Magnitudes;
  static Result<std::optional<Factor>> common_factor(const std::vector<Decimal>& factors);
  Status between(const NumberRule& rule, const std::optional<Factor>& factor, std::vector<Expression>& ways);
  std::optional<std::vector<std::string>> listed(const NumberRule& rule, const Factor& factor);
  std::optional<Expression> magnitudes(const Magnitudes& what);

  GrammarBuilder* builder_;
  JsonValues* values_;
  std::map<std::string, std::optional<Expression>> known_;
};

}  // namespace odmoe::grammar
