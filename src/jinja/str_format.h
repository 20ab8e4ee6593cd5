// Python's '{}'.format(...).
#pragma once

#include "jinja/value.h"

namespace odmoe::jinja {

// Fields may name attributes and keys, which are looked up as in templates.  What is put into safe HTML is
// escaped.
Value str_format(Heap& heap, const Text& format, const Arguments& arguments);

}  // namespace odmoe::jinja
