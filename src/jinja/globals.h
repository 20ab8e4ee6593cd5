// The functions that every template has: range, dict, namespace, cycler, joiner; and transformers'
// raise_exception and strftime_now.
#pragma once

#include <ctime>
#include <string_view>

#include "jinja/value.h"

namespace odmoe::jinja {

// Nothing: there is none of this name.  `now` is what strftime_now() formats and must outlive the value.
Value find_global(Heap& heap, std::string_view name, const std::tm& now);

}  // namespace odmoe::jinja
