#include "grammar/json_numbers.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace odmoe::grammar {
namespace {

// Bounds beyond it bound nothing that is written without them.
constexpr size_t kFarDigits = 120;

// The remainder of a number's digits.
int64_t remainder(std::string_view digits, int64_t divisor) {
  int64_t rest = 0;
  for (const char digit : digits) rest = (rest * 10 + (digit - '0')) % divisor;
  return rest;
}

}  // namespace

void NumberRule::at_least(const Decimal& bound, bool exclusive) {
  const int order = min ? compare(bound, *min) : 1;
  if (order > 0) min = bound;
  if (order > 0) above_min = exclusive;
  if (order == 0) above_min = above_min || exclusive;
}

void NumberRule::at_most(const Decimal& bound, bool exclusive) {
  const int order = max ? compare(bound, *max) : -1;
  if (order < 0) max = bound;
  if (order < 0) below_max = exclusive;
  if (order == 0) below_max = below_max || exclusive;
}

void NumberRule::meet(const NumberRule& other) {
  if (other.min) at_least(*other.min, other.above_min);
  if (other.max) at_most(*other.max, other.below_max);
  integral = integral || other.integral;
  fractional = fractional || other.fractional;
  for (const Decimal& factor : other.factors) {
    if (!std::ranges::contains(factors, factor)) factors.push_back(factor);
  }
  excluded.insert(excluded.end(), other.excluded.begin(), other.excluded.end());
}

bool NumberRule::is_free() const {
  return !min && !max && !integral && !fractional && factors.empty() && excluded.empty();
}

bool NumberRule::is_empty() const {
  if (integral && fractional) return true;
  if (!min || !max) return false;
  const int order = compare(*max, *min);
  if (order < 0 || (order == 0 && (above_min || below_max))) return true;
  return order == 0 && !takes(*min);
}

bool NumberRule::takes(const Decimal& number) const {
  if (number.is_integer() ? fractional : integral) return false;
  if (min && (compare(number, *min) < 0 || (above_min && compare(number, *min) == 0))) return false;
  if (max && (compare(number, *max) > 0 || (below_max && compare(number, *max) == 0))) return false;
  if (std::ranges::contains(excluded, number)) return false;
  return std::ranges::all_of(factors, [&](const Decimal& factor) {
    const size_t places = std::max(number.fraction.size(), factor.fraction.size());
    const auto units = factor.units(places);
    if (!units || *units > INT64_MAX / 20) return number.is_zero();
    const std::string digits =
        number.whole + number.fraction + std::string(places - number.fraction.size(), '0');
    return remainder(digits, *units) == 0;
  });
}

// The least number of which all multiples are multiples of each.
Result<std::optional<JsonNumbers::Factor>> JsonNumbers::common_factor(const std::vector<Decimal>& factors) {
  if (factors.empty()) return std::nullopt;
  size_t places = 0;
  for (const Decimal& factor : factors) places = std::max(places, factor.fraction.size());
  int64_t common = 1;
  for (const Decimal& factor : factors) {
    const auto units = factor.units(places);
    if (!units || *units <= 0 || *units > INT64_MAX / 1000 / common) {
      return fail(ErrorKind::kUsage, "multipleOf {} is not supported: it has too many digits", factor.text());
    }
    common = std::lcm(common, *units);
  }
  Factor factor{.units = common, .exponent = -static_cast<int32_t>(places)};
  while (factor.units % 10 == 0) {
    factor.units /= 10;
    ++factor.exponent;
  }
  return factor;
}

// Numbers without a sign.
struct JsonNumbers::Magnitudes {
  std::optional<Decimal> low, high;
  bool above = false, below = false;
  int32_t max_whole = 0, places = 0;
  bool fractional = false, not_zero = false;
  std::optional<Factor> factor;
};

namespace {

// How the digits so far stand to a bound's.
class Side {
 public:
  explicit Side(const std::optional<Decimal>& bound) : bound_(bound ? &*bound : nullptr) {}
  int after_whole(int order, size_t n, char digit) const {
    if (bound_ == nullptr || order != 0) return order;
    if (n >= bound_->whole.size()) return 1;
    return sign(digit - bound_->whole[n]);
  }
  // When all digits before the point are there.
  int at_point(int order, size_t n) const {
    if (bound_ == nullptr) return 0;
    if (n != bound_->whole.size()) return n < bound_->whole.size() ? -1 : 1;
    return order;
  }
  int after_place(int order, size_t n, char digit) const {
    if (bound_ == nullptr || order != 0) return order;
    return sign(digit - (n < bound_->fraction.size() ? bound_->fraction[n] : '0'));
  }
  int at_end(int order, size_t n) const {
    return bound_ != nullptr && order == 0 && n < bound_->fraction.size() ? -1 : order;
  }
  // Whether no number of more digits than n can be below the bound.
  bool longer(size_t n) const { return bound_ != nullptr && n > bound_->whole.size(); }

 private:
  static int sign(int difference) { return difference < 0 ? -1 : difference > 0 ? 1 : 0; }
  const Decimal* bound_;
};

struct DigitState {
  int32_t whole = 0, places = -1;  // digits; -1: before the point
  int64_t rest = 0;                // of the digits, their last zeros apart
  int32_t zeros = 0;               // of them
  int to_low = 0, to_high = 0;
  bool is_zero = true, zero_places = true;
  auto operator<=>(const DigitState&) const = default;
};

}  // namespace

std::optional<GrammarBuilder::Expression> JsonNumbers::magnitudes(const Magnitudes& what) {
  GrammarBuilder& b = *builder_;
  const Side low(what.low), high(what.high);
  const Factor factor = what.factor.value_or(Factor{});
  const int32_t wanted_zeros = std::max(0, factor.exponent);
  const int32_t factor_places = std::max(0, -factor.exponent);
  const auto add_digit = [&](DigitState& state, char digit) {
    state.is_zero = state.is_zero && digit == '0';
    if (digit == '0' && state.zeros < wanted_zeros) {
      ++state.zeros;
      return;
    }
    // Zeros that turn out not to be the last ones are digits as others.
    const int32_t zeros = digit == '0' ? 0 : std::exchange(state.zeros, 0);
    for (int32_t i = 0; i <= zeros; ++i) state.rest = state.rest * 10 % factor.units;
    state.rest = (state.rest + (digit - '0')) % factor.units;
  };
  const auto ends = [&](DigitState state) {
    if (state.whole == 0 || state.places == 0) return false;
    if (what.not_zero && state.is_zero) return false;
    if (what.fractional && (state.places < 0 || state.zero_places)) return false;
    if (state.places < 0) {
      const auto n = static_cast<size_t>(state.whole);
      state.to_low = low.at_point(state.to_low, n);
      state.to_high = high.at_point(state.to_high, n);
      state.places = 0;
    }
    const int to_low = low.at_end(state.to_low, static_cast<size_t>(state.places));
    const int to_high = high.at_end(state.to_high, static_cast<size_t>(state.places));
    if (what.low && (to_low < 0 || (to_low == 0 && what.above))) return false;
    if (what.high && (to_high > 0 || (to_high == 0 && what.below))) return false;
    for (int32_t i = state.places; i < factor_places; ++i) state.rest = state.rest * 10 % factor.units;
    return state.rest == 0 && (state.zeros == wanted_zeros || state.is_zero);
  };

  std::vector<GrammarBuilder::Expression> digits;
  for (uint8_t digit = '0'; digit <= '9'; ++digit) digits.push_back(b.range(digit, digit));
  const GrammarBuilder::Expression point = b.literal(".");
  GrammarBuilder::Graph graph;
  std::map<DigitState, uint32_t> numbers = {{{}, 0}};
  std::vector<DigitState> pending = {{}};
  while (!pending.empty() && b.work().spend() && graph.n_state < kMaxNumberStates) {
    const DigitState state = pending.back();
    pending.pop_back();
    const uint32_t from = numbers[state];
    const auto lead = [&](const DigitState& next, GrammarBuilder::Expression by) {
      const auto [entry, fresh] = numbers.try_emplace(next, graph.n_state);
      if (fresh) {
        ++graph.n_state;
        pending.push_back(next);
      }
      graph.edges.push_back({.from = from, .to = entry->second, .by = by});
    };
    if (ends(state)) graph.ends.push_back(from);
    const auto n = static_cast<size_t>(state.whole);
    if (state.places < 0) {
      const bool only_zero = state.whole == 1 && state.is_zero;
      for (char digit = '0'; digit <= '9' && !only_zero && state.whole < what.max_whole; ++digit) {
        DigitState next = state;
        ++next.whole;
        next.to_low = low.after_whole(state.to_low, n, digit);
        next.to_high = high.after_whole(state.to_high, n, digit);
        add_digit(next, digit);
        if (!high.longer(n + 1)) lead(next, digits[static_cast<size_t>(digit - '0')]);
      }
      if (state.whole > 0 && std::min(what.places, kMaxSignificant - state.whole) > 0) {
        DigitState next = state;
        next.places = 0;
        next.to_low = low.at_point(state.to_low, n);
        next.to_high = high.at_point(state.to_high, n);
        if (!what.high || next.to_high <= 0) lead(next, point);
      }
    } else if (state.places < std::min(what.places, kMaxSignificant - state.whole)) {
      for (char digit = '0'; digit <= '9'; ++digit) {
        DigitState next = state;
        next.to_low = low.after_place(state.to_low, static_cast<size_t>(state.places), digit);
        next.to_high = high.after_place(state.to_high, static_cast<size_t>(state.places), digit);
        ++next.places;
        next.zero_places = state.zero_places && digit == '0';
        add_digit(next, digit);
        if (!what.high || next.to_high <= 0) lead(next, digits[static_cast<size_t>(digit - '0')]);
      }
    }
  }
  if (graph.ends.empty()) return std::nullopt;
  return b.graph(std::move(graph));
}

// All multiples between two bounds, when they are few.
std::optional<std::vector<std::string>> JsonNumbers::listed(const NumberRule& rule, const Factor& factor) {
  if (!rule.min || !rule.max) return std::nullopt;
  const auto places = static_cast<size_t>(std::max(0, -factor.exponent));
  int64_t units = factor.units;
  for (int32_t i = 0; i < factor.exponent; ++i) {
    if (units > INT64_MAX / 10) return std::nullopt;
    units *= 10;
  }
  // Outward to the next unit: what is beyond the bounds is left out below.
  const auto near = [&](Decimal bound, int64_t outward) -> std::optional<int64_t> {
    if (bound.fraction.size() > places) bound.fraction.resize(places);
    const auto number = bound.units(places);
    return number ? std::optional(*number / units + outward) : std::nullopt;
  };
  const auto first = near(*rule.min, -1), last = near(*rule.max, 1);
  if (!first || !last || *last - *first > kMaxListedMultiples) return std::nullopt;
  std::vector<std::string> texts;
  for (int64_t i = *first; i <= *last; ++i) {
    Decimal number{.negative = i < 0, .whole = std::to_string(std::abs(i * units))};
    if (number.whole.size() <= places) number.whole.insert(0, places + 1 - number.whole.size(), '0');
    number.fraction = number.whole.substr(number.whole.size() - places);
    number.whole.erase(number.whole.size() - places);
    while (number.fraction.ends_with('0')) number.fraction.pop_back();
    if (rule.takes(number)) texts.push_back(number.text());
  }
  return texts;
}

Status JsonNumbers::between(const NumberRule& rule, const std::optional<Factor>& factor,
                            std::vector<Expression>& ways) {
  const bool whole = rule.integral || (factor && factor->exponent >= 0);
  // Every integer is a multiple of 1, and of what 1 is a multiple of.
  const bool needs_factor = factor && (factor->units != 1 || factor->exponent > 0);
  if (needs_factor && factor->units > kMaxFactor) {
    if (auto some = listed(rule, *factor)) {
      if (!some->empty()) ways.push_back(builder_->one_of(*std::move(some)));
      return {};
    }
    return fail(ErrorKind::kUsage,
                "multipleOf {} is not supported: it must be a power of ten, times an integer up to {}, or "
                "have bounds "
                "with at most {} multiples between them",
                rule.factors[0].text(), kMaxFactor, kMaxListedMultiples);
  }
  Magnitudes what{.places = whole    ? 0
                            : factor ? -factor->exponent
                                     : kMaxSignificant,
                  .fractional = rule.fractional};
  if (needs_factor) what.factor = factor;
  const auto fit = [&](const std::optional<Decimal>& low, bool above, const std::optional<Decimal>& high,
                       bool below) {
    what.low = low;
    what.above = above;
    what.high = high;
    what.below = below;
    const size_t most = whole ? kMaxBoundDigits : kMaxSignificant;
    if (high && high->whole.size() > most) what.high.reset();
    what.max_whole = whole ? kMaxWholeDigits : kMaxSignificant;
    if (whole && low && low->whole.size() > kMaxWholeDigits) what.max_whole = kMaxBoundDigits;
    if (what.high) what.max_whole = static_cast<int32_t>(what.high->whole.size());
  };
  // A bound on the other side of zero bounds nothing here.
  if (!rule.max || !rule.max->negative) {
    const bool bound = rule.min && !rule.min->negative;
    what.not_zero = false;
    fit(bound ? rule.min : std::nullopt, bound && rule.above_min, rule.max, rule.below_max);
    if (const auto way = magnitudes(what)) ways.push_back(*way);
  }
  if (!rule.min || rule.min->negative) {
    const auto positive = [](std::optional<Decimal> number) {
      if (number) number->negative = false;
      return number;
    };
    const bool bound = rule.max && rule.max->negative;
    what.not_zero = true;
    fit(bound ? positive(rule.max) : std::nullopt, bound && rule.below_max, positive(rule.min),
        rule.above_min);
    if (const auto way = magnitudes(what)) {
      ways.push_back(builder_->sequence({builder_->literal("-"), *way}));
    }
  }
  return {};
}

Result<std::optional<GrammarBuilder::Expression>> JsonNumbers::number(const NumberRule& given) {
  NumberRule rule = given;
  if (rule.min && rule.min->negative && rule.min->whole.size() > kFarDigits) rule.min.reset();
  if (rule.max && !rule.max->negative && rule.max->whole.size() > kFarDigits) rule.max.reset();
  if (rule.is_empty()) return std::nullopt;
  ODMOE_ASSIGN_OR_RETURN(const auto factor, common_factor(rule.factors));
  const bool bound = rule.min || rule.max || factor || rule.fractional || !rule.excluded.empty();
  if (!bound) return rule.integral ? values_->integer() : values_->number();
  const bool above_zero = rule.min && rule.min->is_zero() && !rule.above_min && !rule.max;
  if (above_zero && !factor && !rule.integral && !rule.fractional && rule.excluded.empty()) {
    return values_->non_negative_number();
  }
  std::string key = odmoe::format("{}{}{}{}", rule.integral, rule.fractional, rule.above_min, rule.below_max);
  key += rule.min ? rule.min->text() : "";
  key += ":" + (rule.max ? rule.max->text() : "");
  if (factor) key += odmoe::format("*{}e{}", factor->units, factor->exponent);
  for (const Decimal& number : rule.excluded) key += "!" + number.text();
  if (const auto known = known_.find(key); known != known_.end()) return known->second;
  // Around the numbers that are left out.
  std::vector<Decimal> excluded = std::move(rule.excluded);
  rule.excluded.clear();
  std::ranges::sort(excluded, [](const Decimal& a, const Decimal& b) { return compare(a, b) < 0; });
  std::vector<Expression> ways;
  for (const Decimal& number : excluded) {
    NumberRule below = rule;
    below.at_most(number, true);
    if (!below.is_empty()) {
      ODMOE_RETURN_IF_ERROR(between(below, factor, ways));
    }
    rule.at_least(number, true);
  }
  if (!rule.is_empty()) {
    ODMOE_RETURN_IF_ERROR(between(rule, factor, ways));
  }
  std::optional<Expression> all;
  if (!ways.empty()) all = builder_->shared(builder_->choice(std::move(ways)));
  known_.emplace(std::move(key), all);
  return all;
}

}  // namespace odmoe::grammar
