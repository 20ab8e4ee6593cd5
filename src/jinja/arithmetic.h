// Python's operators on numbers, text and lists.
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

enum class Operator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kRemainder, kPower };

std::string_view operator_sign(Operator op);

// Raises a TypeError where Python has none, an error for a division by zero, and kLimit where an integer
// would take more than 64 bits.
Value compute(Heap& heap, Operator op, const Value& left, const Value& right);
Value negative(const Value& value);
Value positive(const Value& value);
Value absolute(const Value& value);
// round(value, digits): halves go to the even neighbour, and what counts is the number's exact value.
Value rounded(const Value& value, int64_t digits);

// A float that is a whole number, as an int.
Value whole(double value, bool said);

}  // namespace odmoe::jinja
