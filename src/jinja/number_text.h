// Numbers as Python's % and str.format() write them, without sign and padding.
#pragma once

#include <cstdint>
#include <string>

#include "jinja/value.h"

namespace odmoe::jinja {

// Of a positive or negative number its digits alone.
struct Digits {
  bool negative = false;
  std::string text;
};

Digits integer_digits(const Value& integer, int base, bool upper);
// `type` is one of e E f F g G; `alternate` keeps the point and zeros at the end, as "#" does.
Digits float_digits(double value, char type, int precision, bool alternate);

}  // namespace odmoe::jinja
