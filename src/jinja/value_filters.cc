// Filters of single values.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/numbers.h"
#include "base/ordered_json.h"
#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/arithmetic.h"
#include "jinja/filter_functions.h"
#include "jinja/json.h"
#include "jinja/show.h"
#include "jinja/unicode.h"
#include "odmoe/format.h"

namespace odmoe::jinja {
namespace {

// Text without white space around it, digits of all scripts as ASCII's; lower case.
std::string plain_number(std::string_view text) {
  const size_t begin = skip_space(text, 0), end = std::max(begin, skip_space_back(text, text.size()));
  std::string plain;
  for (size_t at = begin; at < end; at += char_size(text, at)) {
    const uint32_t c = code_point_at(text, at);
    const int digit = decimal_value(c);
    plain += digit >= 0 ? std::string(1, static_cast<char>('0' + digit)) : change_case(c, Case::kLower);
  }
  return plain;
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

// int(text, base); nothing: it is none.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  const std::string plain = plain_number(text);
  std::string_view rest = plain;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const auto prefixed = [&](std::string_view prefix, int64_t of) {
    if (!rest.starts_with(prefix) || (base != of && base != 0)) return;
    rest.remove_prefix(2);
    if (rest.starts_with('_')) rest.remove_prefix(1);
    base = of;
  };
  prefixed("0x", 16);
  prefixed("0o", 8);
  prefixed("0b", 2);
  if (base == 0) {
    base = 10;
    if (rest.size() > 1 && rest.starts_with('0') && rest.find_first_not_of("0_") != std::string_view::npos) {
      return std::nullopt;
    }
  }
  if (rest.empty() || rest.starts_with('_') || rest.ends_with('_') || rest.contains("__"))
    return std::nullopt;
  int64_t value = 0;
  for (const char c : rest) {
    if (c == '_') continue;
    const int digit = digit_value(c);
    if (digit >= base) return std::nullopt;
    const bool overflow = __builtin_mul_overflow(value, base, &value) ||
                          __builtin_sub_overflow(value, static_cast<int64_t>(digit), &value);
    if (overflow) raise(FailureKind::kLimit, "cannot compute with integers of more than 64 bits");
  }
  if (negative) return value;
  if (value == std::numeric_limits<int64_t>::min()) {
    raise(FailureKind::kLimit, "cannot compute with integers of more than 64 bits");
  }
  return -value;
}

// float(text); nothing: it is none.
std::optional<double> parse_real(std::string_view text) {
  std::string plain = plain_number(text);
  if (plain.starts_with('_') || plain.ends_with('_') || plain.contains("__")) return std::nullopt;
  for (size_t at = plain.find('_'); at != std::string::npos; at = plain.find('_', at)) {
    if (digit_value(plain[at - 1]) > 9 || digit_value(plain[at + 1]) > 9) return std::nullopt;
    plain.erase(at, 1);
  }
  std::string_view rest = plain;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const double sign = negative ? -1 : 1;
  if (rest == "inf" || rest == "infinity") return sign * std::numeric_limits<double>::infinity();
  if (rest == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (rest.starts_with('-')) return std::nullopt;
  const auto number = parse_double(rest);
  if (!number || number->size != rest.size()) return std::nullopt;
  return sign * number->value;
}

bool any_said(const Value& value) { return value.is_text() ? !value.text().all_own() : value.number_said(); }

}  // namespace

Value filter_abs(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  if (value.undefined() != nullptr) value.undefined()->fail();
  return absolute(value);
}

Value filter_attr(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("attr", arguments, {"name"}, 1);
  return get_member(heap, value, bound.text(0).view());
}

Value filter_default(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  const bool replaced = value.is_undefined() || (bound.truth_or(1, false) && !truth(value));
  return replaced ? bound.value_or(0, Text()) : value;
}

Value filter_from_json(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("from_json", arguments, {});
  if (!value.is_text()) raise(FailureKind::kType, "the JSON object must be str, not {}", type_name(value));
  heap.copy(value.view().size());
  // What it is made of may take more than the values themselves, for a moment.
  const size_t bytes = kJsonValueBytes * value.view().size();
  heap.take(bytes);
  const auto json = read_ordered_json(value.view());
  heap.give_back(bytes);
  if (!json.has_value()) raise(FailureKind::kValue, "what is given to from_json is no JSON");
  static const OwnText kNone;
  return any_said(value) ? said_value(heap, *json, kNone) : own_value(heap, *json);
}

Value filter_int(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  if (value.undefined() != nullptr) value.undefined()->fail();
  const Value fallback = bound.value_or(0, int64_t{0});
  if (value.is_text()) {
    if (const auto number = parse_integer(value.view(), bound.integer_or(1, 10)))
      return {*number, any_said(value)};
    const auto real = parse_real(value.view());
    return real && std::isfinite(*real) ? whole(*real, any_said(value)) : fallback;
  }
  if (value.is_float()) return std::isnan(value.real()) ? fallback : whole(value.real(), value.number_said());
  return value.is_integer() ? positive(value) : fallback;
}

Value filter_float(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  if (value.undefined() != nullptr) value.undefined()->fail();
  const Value fallback = bound.value_or(0, 0.0);
  if (value.is_number()) return {value.as_double(), value.number_said()};
  const auto real = value.is_text() ? parse_real(value.view()) : std::nullopt;
  return real ? Value(*real, any_said(value)) : fallback;
}

Value filter_round(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  if (value.undefined() != nullptr) value.undefined()->fail();
  const int64_t precision = bound.integer_or(0, 0);
  const std::string_view method = bound.has(1) ? bound.text(1).view() : "common";
  if (method == "common") return rounded(value, precision);
  if (method != "ceil" && method != "floor") {
    raise(FailureKind::kValue, "method must be common, ceil or floor");
  }
  if (!value.is_number()) raise(FailureKind::kType, "must be real number, not {}", type_name(value));
  const Value unit = compute(heap, Operator::kPower, Value(int64_t{10}), Value(precision));
  const double scaled = compute(heap, Operator::kMultiply, value, unit).as_double();
  const Value rounded = whole(method == "ceil" ? std::ceil(scaled) : std::floor(scaled), value.number_said());
  return compute(heap, Operator::kDivide, rounded, unit);
}

Value filter_filesizeformat(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("filesizeformat", arguments, {"binary"});
  if (value.undefined() != nullptr) value.undefined()->fail();
  const auto parsed = value.is_text() ? parse_real(value.view()) : std::nullopt;
  if (!value.is_number() && !parsed) raise(FailureKind::kValue, "could not convert to float");
  const double bytes = value.is_number() ? value.as_double() : *parsed;
  const bool binary = bound.truth_or(0, false);
  const double base = binary ? 1024 : 1000;
  TextBuilder out(heap);
  const auto show = [&](const std::string& text) -> Value { return out.add(text, any_said(value)).take(); };
  if (bytes == 1) return show("1 Byte");
  if (bytes < base) return show(integer_text(whole(bytes, false)) + " Bytes");
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  for (const char prefix : kPrefixes) {
    unit *= base;
    const std::string name =
        binary ? odmoe::format("{}iB", prefix == 'k' ? 'K' : prefix) : odmoe::format("{}B", prefix);
    if (bytes < unit || prefix == kPrefixes.back())
      return show(odmoe::format("{:.1f} {}", base * bytes / unit, name));
  }
  return Value::none();
}

}  // namespace odmoe::jinja
