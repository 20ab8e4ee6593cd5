// Numbers between bounds, and multiples of a number, as grammars.
//
// What is written is exact under a reader of decimals and under one of doubles alike: numbers have at most
// kMaxSignificant digits, and no two decimals of so few round to the same double.  They have no exponent.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>

#include "grammar/json_values.h"

namespace odmoe::grammar {

inline constexpr int32_t kMaxSignificant = 15;
inline constexpr int64_t kMaxFactor = 100;  // of multiples(): it takes a rule per remainder and length
inline constexpr int64_t kMostWhole = 999'999'999'999'999'999;  // of integers: 18 digits

// A number as people write it.
struct Decimal {
  bool negative = false;
  std::string whole = "0";  // without leading zeros
  std::string fraction;     // without trailing zeros

  // Of a JSON number: of a double the shortest text that is that double.
  static Decimal of(const nlohmann::ordered_json& number);
  bool is_zero() const { return whole == "0" && fraction.empty(); }
  // Times ten to the power of `places`, rounded down; nothing where it has more than 17 digits.
  std::optional<int64_t> scaled_down(size_t places) const;
  bool is_whole(size_t places) const { return fraction.size() <= places; }  // times ten to that power
};
// Below 0, 0 or above 0 as `a` is less than, equal to or more than `b`.
int compare(const Decimal& a, const Decimal& b);

struct NumberRange {
  std::optional<Decimal> min, max;
  bool above_min = false, below_max = false;  // the bound itself is not meant
};

// One owner, of one builder, as JsonValues.
class JsonNumbers {
 public:
  using Expression = GrammarBuilder::Expression;
  JsonNumbers(GrammarBuilder& builder, JsonValues& values) : builder_(&builder), values_(&values) {}

  // At most `places` digits behind the point.  Nothing where no number can be written.
  std::optional<Expression> between(const NumberRange& range, int32_t places);
  // Integers from min to max, within +-kMostWhole: multiples of 10^zeros, or of a factor from 1 to
  // kMaxFactor.
  std::optional<Expression> multiples_of_ten(int64_t min, int64_t max, int32_t zeros);
  std::optional<Expression> multiples(int64_t min, int64_t max, int64_t factor);

 private:
  using Maybe = std::optional<Expression>;
  // Digits behind a point, as far as they are bound: nothing is free.
  using Digits = std::optional<std::string_view>;
  struct Ends {
    Digits low, high;
    bool above = false, below = false;
  };
  Maybe magnitudes(const Decimal& low, bool above, const std::optional<Decimal>& high, bool below,
                   int32_t places);
  Maybe behind_point(const Ends& ends, int32_t places);
  Maybe fraction(Ends ends, int32_t places, bool may_end);
  Expression any_digits(int32_t least, int32_t most);
  Maybe multiples_of_length(std::string_view low, std::string_view high, int64_t remainder, int64_t factor);
  Maybe any_multiple(size_t length, int64_t remainder, int64_t factor);
  Maybe choice(std::vector<Expression> ways);
  Expression digit_range(int first, int last);

  GrammarBuilder* builder_;
  JsonValues* values_;
  std::map<std::pair<int32_t, int32_t>, GrammarBuilder::Rule> any_digits_;
  struct Rest {
    int64_t factor;
    size_t length;
    int64_t remainder;
    auto operator<=>(const Rest&) const = default;
  };
  std::map<Rest, std::optional<GrammarBuilder::Rule>> any_multiple_;
};

}  // namespace odmoe::grammar
