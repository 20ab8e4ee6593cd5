#include "grammar/json_numbers.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace odmoe::grammar {
namespace {

using Maybe = std::optional<GrammarBuilder::Expression>;

int compare_magnitudes(const Decimal& a, const Decimal& b) {
  if (a.whole.size() != b.whole.size()) return a.whole.size() < b.whole.size() ? -1 : 1;
  if (const int whole = a.whole.compare(b.whole); whole != 0) return whole;
  return a.fraction.compare(
      b.fraction);  // without trailing zeros the order of the texts is that of the numbers
}

int64_t power_of_ten(int32_t exponent) {
  int64_t power = 1;
  for (int32_t i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// Calls use(low, high) for the parts of [low, high] whose numbers have as many digits as each other.
template <typename Use>
void for_each_length(uint64_t low, uint64_t high, Use use) {
  while (low <= high) {
    const std::string text = std::to_string(low);
    const uint64_t last = std::min<uint64_t>(high, std::stoull(std::string(text.size(), '9')));
    use(text, std::to_string(last));
    low = last + 1;
  }
}

}  // namespace

Decimal Decimal::of(const nlohmann::ordered_json& number) {
  std::string text;
  if (number.is_number_integer()) {
    text = number.dump();
  } else {
    std::array<char, 512> digits{};  // 309 before the point, or 324 and 17 more behind it
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number.get<double>(),
                                   std::chars_format::fixed);
    text.assign(digits.data(), end.ptr);
  }
  Decimal decimal;
  decimal.negative = text.starts_with('-');
  if (decimal.negative) text.erase(0, 1);
  const size_t point = std::min(text.find('.'), text.size());
  decimal.whole = text.substr(0, point);
  if (point < text.size()) decimal.fraction = text.substr(point + 1);
  while (decimal.fraction.ends_with('0')) decimal.fraction.pop_back();
  if (decimal.is_zero()) decimal.negative = false;
  return decimal;
}

std::optional<int64_t> Decimal::scaled_down(size_t places) const {
  std::string digits = whole + fraction.substr(0, std::min(places, fraction.size()));
  digits.append(places - std::min(places, fraction.size()), '0');
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  if (digits.size() > 17) return std::nullopt;
  const int64_t magnitude = std::stoll(digits);
  if (!negative) return magnitude;
  return -magnitude - (is_whole(places) ? 0 : 1);
}

int compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  return a.negative ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
}

Maybe JsonNumbers::choice(std::vector<Expression> ways) {
  if (ways.empty()) return std::nullopt;
  return builder_->choice(std::move(ways));
}

JsonNumbers::Expression JsonNumbers::digit_range(int first, int last) {
  return builder_->range(static_cast<uint8_t>('0' + first), static_cast<uint8_t>('0' + last));
}

JsonNumbers::Expression JsonNumbers::any_digits(int32_t least, int32_t most) {
  const auto [entry, is_new] = any_digits_.try_emplace({least, most});
  if (is_new) {
    entry->second = builder_->declare();
    builder_->define(entry->second, builder_->repeat(digit_range(0, 9), least, most));
  }
  return builder_->call(entry->second);
}

// Up to `places` digits behind a point; none at all only where it may end.
Maybe JsonNumbers::fraction(Ends ends, int32_t places, bool may_end) {
  GrammarBuilder& b = *builder_;
  // Nothing is less than nothing, and everything is at least that.
  if (ends.high && ends.high->empty() && ends.below) return std::nullopt;
  if (ends.low && ends.low->empty() && !ends.above) ends.low.reset();
  if (!ends.low && !ends.high) {
    return places == 0 && !may_end ? std::nullopt : Maybe(any_digits(may_end ? 0 : 1, places));
  }
  std::vector<Expression> ways;
  if (may_end && !ends.low) ways.push_back(b.empty());
  if (places > 0) {
    const int low = ends.low && !ends.low->empty() ? ends.low->front() - '0' : 0;
    const int high = !ends.high ? 9 : ends.high->empty() ? 0 : ends.high->front() - '0';
    const auto rest = [](const Digits& digits) {
      return !digits || digits->empty() ? digits : Digits(digits->substr(1));
    };
    const auto add = [&](int first, int last, const Ends& inner) {
      if (first > last) return;
      if (const Maybe behind = fraction(inner, places - 1, true)) {
        ways.push_back(b.sequence({digit_range(first, last), *behind}));
      }
    };
    const bool on_low = ends.low.has_value(), on_high = ends.high.has_value();
    const Ends lower{.low = rest(ends.low), .high = std::nullopt, .above = ends.above, .below = false};
    const Ends upper{.low = std::nullopt, .high = rest(ends.high), .above = false, .below = ends.below};
    if (on_low && on_high && low == high) {
      add(low, low, {.low = lower.low, .high = upper.high, .above = ends.above, .below = ends.below});
    } else {
      if (on_low) add(low, low, lower);
      add(on_low ? low + 1 : low, on_high ? high - 1 : high, {});
      if (on_high && high > low) add(high, high, upper);
      if (on_high && !on_low && high == low) add(high, high, upper);
    }
  }
  return choice(std::move(ways));
}

// A point and what is behind it, or neither.
Maybe JsonNumbers::behind_point(const Ends& ends, int32_t places) {
  std::vector<Expression> ways;
  const bool above_zero = ends.low && (!ends.low->empty() || ends.above);
  const bool below_zero = ends.high && ends.high->empty() && ends.below;
  if (!above_zero && !below_zero) ways.push_back(builder_->empty());
  if (const Maybe digits = fraction(ends, places, false)) {
    ways.push_back(builder_->sequence({builder_->literal("."), *digits}));
  }
  return choice(std::move(ways));
}

// Numbers without a sign.
Maybe JsonNumbers::magnitudes(const Decimal& low, bool above, const std::optional<Decimal>& high, bool below,
                              int32_t places) {
  GrammarBuilder& b = *builder_;
  if (low.whole.size() > kMaxSignificant) return std::nullopt;
  const bool open = !high || high->whole.size() > kMaxSignificant;
  if (!open) {
    const int order = compare_magnitudes(low, *high);
    if (order > 0 || (order == 0 && (above || below))) return std::nullopt;
  }
  std::vector<Expression> ways;
  const auto add = [&](const std::string& first, const std::string& last, const Ends& ends) {
    const auto left = kMaxSignificant - static_cast<int32_t>(first.size());
    const Maybe behind = behind_point(ends, std::min(places, left));
    if (behind) ways.push_back(b.sequence({values_->same_length_range(first, last), *behind}));
  };
  const Ends lower{.low = low.fraction, .high = std::nullopt, .above = above, .below = false};
  if (!open && low.whole == high->whole) {
    add(low.whole, low.whole, {.low = low.fraction, .high = high->fraction, .above = above, .below = below});
    return choice(std::move(ways));
  }
  const uint64_t first = std::stoull(low.whole);
  const uint64_t last =
      open ? static_cast<uint64_t>(power_of_ten(kMaxSignificant)) : std::stoull(high->whole);
  add(low.whole, low.whole, lower);
  for_each_length(first + 1, last - 1,
                  [&](const std::string& from, const std::string& to) { add(from, to, {}); });
  if (!open) {
    add(high->whole, high->whole,
        {.low = std::nullopt, .high = high->fraction, .above = false, .below = below});
  }
  return choice(std::move(ways));
}

Maybe JsonNumbers::between(const NumberRange& range, int32_t places) {
  std::vector<Expression> ways;
  const bool all_negative = range.max && range.max->negative;
  if (!all_negative) {
    const bool bound = range.min && !range.min->negative;
    const Maybe way = magnitudes(bound ? *range.min : Decimal{}, bound && range.above_min, range.max,
                                 range.below_max, places);
    if (way) ways.push_back(*way);
  }
  if (!range.min || range.min->negative) {
    // Zero has no sign.
    const Maybe way = magnitudes(all_negative ? *range.max : Decimal{}, !all_negative || range.below_max,
                                 range.min, range.above_min, places);
    if (way) ways.push_back(builder_->sequence({builder_->literal("-"), *way}));
  }
  return choice(std::move(ways));
}

Maybe JsonNumbers::multiples_of_ten(int64_t min, int64_t max, int32_t zeros) {
  GrammarBuilder& b = *builder_;
  const int64_t unit = power_of_ten(zeros);
  // Division rounds towards zero: what is rounded outward is stepped back.
  const int64_t low = min / unit + (min > 0 && min % unit != 0 ? 1 : 0);
  const int64_t high = max / unit - (max < 0 && max % unit != 0 ? 1 : 0);
  std::vector<Expression> ways;
  if (low <= 0 && high >= 0) ways.push_back(b.literal("0"));
  const auto add = [&](int64_t from, int64_t to) {
    if (from > to) return;
    ways.push_back(
        b.sequence({values_->integer(from, to), b.literal(std::string(static_cast<size_t>(zeros), '0'))}));
  };
  add(low, std::min<int64_t>(high, -1));
  add(std::max<int64_t>(low, 1), high);
  return choice(std::move(ways));
}

// So many digits, whatever they are, behind ones that leave the remainder.
Maybe JsonNumbers::any_multiple(size_t length, int64_t remainder, int64_t factor) {
  GrammarBuilder& b = *builder_;
  if (length == 0) return remainder == 0 ? Maybe(b.empty()) : std::nullopt;
  const Rest rest{.factor = factor, .length = length, .remainder = remainder};
  const auto known = any_multiple_.find(rest);
  if (known != any_multiple_.end()) {
    return known->second ? Maybe(b.call(*known->second)) : std::nullopt;
  }
  std::vector<Expression> ways;
  for (int digit = 0; digit < 10; ++digit) {
    if (const Maybe behind = any_multiple(length - 1, (remainder * 10 + digit) % factor, factor)) {
      ways.push_back(b.sequence({digit_range(digit, digit), *behind}));
    }
  }
  std::optional<GrammarBuilder::Rule> rule;
  if (const Maybe body = choice(std::move(ways))) {
    rule = b.declare();
    b.define(*rule, *body);
  }
  any_multiple_.emplace(rest, rule);
  return rule ? Maybe(b.call(*rule)) : std::nullopt;
}

// Digits from `low` to `high`, which have as many, behind ones that leave the remainder.
Maybe JsonNumbers::multiples_of_length(std::string_view low, std::string_view high, int64_t remainder,
                                       int64_t factor) {
  if (low.find_first_not_of('0') == low.npos && high.find_first_not_of('9') == high.npos) {
    return any_multiple(low.size(), remainder, factor);
  }
  const std::string nines(low.size() - 1, '9'), zeros(low.size() - 1, '0');
  std::vector<Expression> ways;
  for (char digit = low[0]; digit <= high[0]; ++digit) {
    const Maybe behind = multiples_of_length(digit == low[0] ? low.substr(1) : zeros,
                                             digit == high[0] ? high.substr(1) : nines,
                                             (remainder * 10 + (digit - '0')) % factor, factor);
    if (behind) ways.push_back(builder_->sequence({digit_range(digit - '0', digit - '0'), *behind}));
  }
  return choice(std::move(ways));
}

Maybe JsonNumbers::multiples(int64_t min, int64_t max, int64_t factor) {
  GrammarBuilder& b = *builder_;
  const auto positive = [&](int64_t from, int64_t to) {
    std::vector<Expression> ways;
    if (from <= to) {
      for_each_length(static_cast<uint64_t>(from), static_cast<uint64_t>(to),
                      [&](const std::string& low, const std::string& high) {
                        if (const Maybe way = multiples_of_length(low, high, 0, factor)) ways.push_back(*way);
                      });
    }
    return choice(std::move(ways));
  };
  std::vector<Expression> ways;
  if (min <= 0 && max >= 0) ways.push_back(b.literal("0"));
  if (const Maybe way = positive(std::max<int64_t>(min, 1), max)) ways.push_back(*way);
  if (const Maybe way = positive(std::max<int64_t>(-max, 1), -min)) {
    ways.push_back(b.sequence({b.literal("-"), *way}));
  }
  return choice(std::move(ways));
}

}  // namespace odmoe::grammar
