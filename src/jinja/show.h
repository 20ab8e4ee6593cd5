// str() and repr(): values as Python prints them.
#pragma once

#include <string>
#include <string_view>

#include "jinja/text.h"
#include "jinja/value.h"

namespace odmoe::jinja {

// str(value); text stays the same object.
Text to_text(Heap& heap, const Value& value);
// soft_str(): as to_text(), but safe HTML stays so.  What is not text never is.
inline Text soft_text(Heap& heap, const Value& value) {
  return value.is_text() ? value.text() : to_text(heap, value);
}
Text to_repr(Heap& heap, const Value& value);
void append_text(Heap& heap, const Value& value, TextBuilder& out);

// repr() of a float: the shortest digits that it is read back from.
std::string float_repr(double value);
std::string integer_text(const Value& integer);  // of any integer but a bool

// HTML's special characters as entities; safe HTML stays as it is.  The result is safe.
Text escape(Heap& heap, const Value& value);

}  // namespace odmoe::jinja
