// Python's `'...' % values`.
#pragma once

#include "jinja/value.h"

namespace odmoe::jinja {

// `values` is a tuple with a value for each conversion, a dict for those that name one, or the only value.
// What is put into safe HTML is escaped.
Value percent_format(Heap& heap, const Text& format, const Value& values);

}  // namespace odmoe::jinja
