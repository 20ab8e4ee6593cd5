// The methods of Python's own types, as far as the sandbox lets them be called.
#pragma once

#include <optional>
#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

// A method bound to the value, or a member such as range.start; nothing: its type has none of this name.
std::optional<Value> find_method(Heap& heap, const Value& value, std::string_view name);

// Of those that change a list or dict in place, those that there are (Rules::kWider).
bool has_changing_method(const Value& value, std::string_view name);

// What a type's table has: a function of the value and the arguments.
using MethodFunction = Value (*)(Heap& heap, const Value& self, const Arguments& arguments);
struct Method {
  std::string_view name;
  MethodFunction function;
};

// Of str; null: none of this name.
MethodFunction find_text_method(std::string_view name);

}  // namespace odmoe::jinja
