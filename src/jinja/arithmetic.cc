#include "jinja/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "base/numbers.h"
#include "jinja/percent_format.h"
#include "jinja/show.h"
#include "odmoe/format.h"

namespace odmoe::jinja {
namespace {

[[noreturn]] void unsupported(Operator op, const Value& left, const Value& right) {
  raise(FailureKind::kType, "unsupported operand type(s) for {}: '{}' and '{}'",
        op == Operator::kPower ? "** or pow()" : operator_sign(op), type_name(left), type_name(right));
}

[[noreturn]] void too_large() {
  raise(FailureKind::kLimit, "cannot compute with integers of more than 64 bits");
}

std::optional<int64_t> power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (true) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return std::nullopt;
    exponent >>= 1;
    if (exponent == 0) return result;
    if (__builtin_mul_overflow(base, base, &base)) return std::nullopt;
  }
}

int64_t floor_divide(int64_t left, int64_t right) {
  if (right == -1) {
    if (left == std::numeric_limits<int64_t>::min()) too_large();
    return -left;
  }
  const int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

double float_remainder(double left, double right) {
  double rest = std::fmod(left, right);
  if (rest != 0) {
    if ((rest < 0) != (right < 0)) rest += right;
  } else {
    rest = std::copysign(0.0, right);
  }
  return rest;
}

double float_floor_divide(double left, double right) {
  const double rest = std::fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest != 0 && (rest < 0) != (right < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, left / right);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

Value compute_integers(Operator op, int64_t left, int64_t right, bool said) {
  int64_t result = 0;
  switch (op) {
    case Operator::kAdd:
      if (__builtin_add_overflow(left, right, &result)) too_large();
      return {result, said};
    case Operator::kSubtract:
      if (__builtin_sub_overflow(left, right, &result)) too_large();
      return {result, said};
    case Operator::kMultiply:
      if (__builtin_mul_overflow(left, right, &result)) too_large();
      return {result, said};
    case Operator::kFloorDivide:
      if (right == 0) raise(FailureKind::kValue, "integer division or modulo by zero");
      return {floor_divide(left, right), said};
    case Operator::kRemainder:
      if (right == 0) raise(FailureKind::kValue, "integer modulo by zero");
      if (right == -1) return {int64_t{0}, said};
      result = left % right;
      return {result != 0 && (result < 0) != (right < 0) ? result + right : result, said};
    case Operator::kPower: {
      const auto raised = power(left, right);
      if (!raised) too_large();
      return {*raised, said};
    }
    case Operator::kDivide:
      break;
  }
  std::unreachable();
}

Value compute_floats(Operator op, double left, double right, bool said) {
  switch (op) {
    case Operator::kAdd:
      return {left + right, said};
    case Operator::kSubtract:
      return {left - right, said};
    case Operator::kMultiply:
      return {left * right, said};
    case Operator::kDivide:
      if (right == 0) raise(FailureKind::kValue, "division by zero");
      return {left / right, said};
    case Operator::kFloorDivide:
      if (right == 0) raise(FailureKind::kValue, "float floor division by zero");
      return {float_floor_divide(left, right), said};
    case Operator::kRemainder:
      if (right == 0) raise(FailureKind::kValue, "float modulo");
      return {float_remainder(left, right), said};
    case Operator::kPower: {
      if (left == 0 && right < 0) raise(FailureKind::kValue, "0.0 cannot be raised to a negative power");
      if (left < 0 && std::isfinite(left) && std::isfinite(right) && std::floor(right) != right) {
        raise(FailureKind::kLimit, "cannot compute with complex numbers");
      }
      const double result = std::pow(left, right);
      if (std::isinf(result) && std::isfinite(left) && std::isfinite(right)) {
        raise(FailureKind::kValue, "(34, 'Numerical result out of range')");
      }
      return {result, said};
    }
  }
  std::unreachable();
}

Value compute_numbers(Operator op, const Value& left, const Value& right) {
  const bool said = left.number_said() || right.number_said();
  const bool floats = left.is_float() || right.is_float() || op == Operator::kDivide ||
                      (op == Operator::kPower && right.integer() < 0);
  if (floats) return compute_floats(op, left.as_double(), right.as_double(), said);
  return compute_integers(op, left.integer(), right.integer(), said);
}

// How often something is repeated; `bytes` each.
size_t repetitions(Heap& heap, const Value& count, size_t bytes) {
  const int64_t n = std::max<int64_t>(count.integer(), 0);
  if (bytes == 0) return 0;
  if (std::cmp_greater(n, heap.limits().memory_bytes / bytes)) {
    raise(FailureKind::kLimit, "a value that is repeated {} times takes too much memory", n);
  }
  return static_cast<size_t>(n);
}

Value repeat(Heap& heap, const Value& value, const Value& count) {
  if (value.is_text()) {
    const Text& text = value.text();
    TextBuilder out(heap);
    for (size_t n = repetitions(heap, count, text.size()); n > 0; --n) out.add(text);
    return out.take(text.markup());
  }
  const List& list = *value.list();
  std::vector<Value> items;
  const size_t n = repetitions(heap, count, list.items.size() * sizeof(Value));
  items.reserve(n * list.items.size());
  for (size_t i = 0; i < n; ++i) items.insert(items.end(), list.items.begin(), list.items.end());
  return list.tuple ? make_tuple(heap, std::move(items)) : make_list(heap, std::move(items));
}

Value add(Heap& heap, const Value& left, const Value& right) {
  if (left.is_text() && right.is_text()) {
    const bool markup = left.text().markup() || right.text().markup();
    TextBuilder out(heap);
    out.add(markup ? escape(heap, left) : left.text());
    return out.add(markup ? escape(heap, right) : right.text()).take(markup);
  }
  const List *a = left.list(), *b = right.list();
  if (a != nullptr && b != nullptr && a->tuple == b->tuple) {
    std::vector<Value> items = a->items;
    items.insert(items.end(), b->items.begin(), b->items.end());
    return a->tuple ? make_tuple(heap, std::move(items)) : make_list(heap, std::move(items));
  }
  if (left.is_text()) {
    raise(FailureKind::kType, "can only concatenate str (not \"{}\") to str", type_name(right));
  }
  if (a != nullptr) {
    raise(FailureKind::kType, "can only concatenate {} (not \"{}\") to {}", type_name(left), type_name(right),
          type_name(left));
  }
  unsupported(Operator::kAdd, left, right);
}

bool is_sequence(const Value& value) { return value.is_text() || value.list() != nullptr; }

}  // namespace

std::string_view operator_sign(Operator op) {
  switch (op) {
    case Operator::kAdd:
      return "+";
    case Operator::kSubtract:
      return "-";
    case Operator::kMultiply:
      return "*";
    case Operator::kDivide:
      return "/";
    case Operator::kFloorDivide:
      return "//";
    case Operator::kRemainder:
      return "%";
    case Operator::kPower:
      return "**";
  }
  std::unreachable();
}

Value compute(Heap& heap, Operator op, const Value& left, const Value& right) {
  // Text formats undefined values as it formats all others.
  if (op == Operator::kRemainder && left.is_text()) return percent_format(heap, left.text(), right);
  if (left.undefined() != nullptr) left.undefined()->fail();
  if (right.undefined() != nullptr) right.undefined()->fail();
  if (left.is_number() && right.is_number()) return compute_numbers(op, left, right);
  if (op == Operator::kAdd) return add(heap, left, right);
  if (op == Operator::kMultiply) {
    if (is_sequence(left) && right.is_integer()) return repeat(heap, left, right);
    if (is_sequence(right) && left.is_integer()) return repeat(heap, right, left);
    if (is_sequence(left) || is_sequence(right)) {
      raise(FailureKind::kType, "can't multiply sequence by non-int of type '{}'",
            type_name(is_sequence(left) ? right : left));
    }
  }
  unsupported(op, left, right);
}

Value negative(const Value& value) {
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (value.is_float()) return {-value.real(), value.number_said()};
  if (!value.is_integer()) raise(FailureKind::kType, "bad operand type for unary -: '{}'", type_name(value));
  if (value.integer() == std::numeric_limits<int64_t>::min()) too_large();
  return {-value.integer(), value.number_said()};
}

Value positive(const Value& value) {
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (value.is_bool()) return {value.integer(), value.number_said()};
  if (!value.is_number()) raise(FailureKind::kType, "bad operand type for unary +: '{}'", type_name(value));
  return value;
}

Value absolute(const Value& value) {
  if (!value.is_number()) raise(FailureKind::kType, "bad operand type for abs(): '{}'", type_name(value));
  if (value.is_float()) return {std::fabs(value.real()), value.number_said()};
  return !value.is_big() && value.integer() < 0 ? negative(value) : positive(value);
}

Value rounded(const Value& value, int64_t digits) {
  if (!value.is_number()) {
    raise(FailureKind::kType, "type {} doesn't define __round__ method", type_name(value));
  }
  const bool said = value.number_said();
  if (!value.is_float()) {
    if (digits >= 0) return positive(value);
    const int64_t number = value.integer();
    if (digits < -18) return {int64_t{0}, said};
    const int64_t unit = *power(10, -digits);
    const int64_t below = floor_divide(number, unit), rest = number - below * unit;
    const bool up = rest > unit - rest || (rest == unit - rest && (below & 1) != 0);
    int64_t result = 0;
    if (__builtin_mul_overflow(below + (up ? 1 : 0), unit, &result)) too_large();
    return {result, said};
  }
  const double number = value.real();
  constexpr int64_t kAllDigits = 323;  // no double has more behind the point
  if (!std::isfinite(number) || digits > kAllDigits) return value;
  if (digits < -308) return {std::copysign(0.0, number), said};
  if (digits >= 0) {
    const std::string text = odmoe::format("{:.{}f}", number, digits);
    return {parse_double(text)->value, said};
  }
  // Digits before the point: those of the exact number, halves to the even one.
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  const double quotient = number / unit;
  double whole = std::nearbyint(quotient);
  return {whole * unit, said};
}

Value whole(double value, bool said) {
  constexpr double kTwo63 = 9223372036854775808.0;
  if (std::isnan(value)) raise(FailureKind::kValue, "cannot convert float NaN to integer");
  if (std::isinf(value)) raise(FailureKind::kValue, "cannot convert float infinity to integer");
  if (value >= kTwo63 || value < -kTwo63) too_large();
  return {static_cast<int64_t>(value), said};
}

}  // namespace odmoe::jinja
