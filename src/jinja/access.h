// What `x.name`, `x[key]` and `x[a:b:c]` find.
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

// As jinja2's sandbox looks them up: a method or member first, then the key; for get_item() the other way
// round.  What is not there is undefined; what the sandbox forbids (methods that change a list or dict, names
// that begin with an underscore) is undefined too and raises a SecurityError when used.
Value get_attribute(Heap& heap, const Value& value, std::string_view name);
Value get_item(Heap& heap, const Value& value, const Value& key);
// A method or member alone, as the filter `attr` looks for it.
Value get_member(Heap& heap, const Value& value, std::string_view name);
// Absent parts are None.  Raises where the value has no slices.
Value get_slice(Heap& heap, const Value& value, const Value& start, const Value& stop, const Value& step);

// "a.b.0" or a number, as the filters' `attribute=` has it.
Value get_path(Heap& heap, const Value& value, const Value& path, const Value& fallback = {});

// Calls whatever can be called.
Value call_value(Heap& heap, const Value& function, Arguments& arguments);

}  // namespace odmoe::jinja
