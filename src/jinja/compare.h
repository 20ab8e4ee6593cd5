// ==, <, `in` and hashes, as Python has them.
#pragma once

#include <compare>
#include <cstddef>

#include "jinja/value.h"

namespace odmoe::jinja {

bool equals(const Value& left, const Value& right);
// left < right.  Raises a TypeError, in which `sign` is the operator, where they have no order.
bool less(const Value& left, const Value& right, std::string_view sign = "<");
bool less_or_equal(const Value& left, const Value& right, std::string_view sign = "<=");
// `item` in `container`; raises where that is none.
bool contains(Heap& heap, const Value& container, const Value& item);

// Equal for equal values.  Raises for what is not hashable.
size_t hash_of(const Value& value);

}  // namespace odmoe::jinja
