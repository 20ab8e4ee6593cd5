// jinja2's tests: what `is` asks.
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

using TestFunction = bool (*)(Heap& heap, const Value& value, const Arguments& arguments);

// Null: there is none of this name.
TestFunction find_test(std::string_view name);

}  // namespace odmoe::jinja
