// jinja2's filters, and transformers' tojson.
#pragma once

#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

using FilterFunction = Value (*)(Heap& heap, const Value& value, const Arguments& arguments);

// Null: there is none of this name.
FilterFunction find_filter(std::string_view name);

}  // namespace odmoe::jinja
