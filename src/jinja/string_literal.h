// The escapes of Python's string literals.
#pragma once

#include <string>
#include <string_view>

namespace odmoe::jinja {

// What stands between the quotes, with its escapes resolved.  Raises kSyntax, at `line`.
std::string unescape_literal(std::string_view text, int line);

}  // namespace odmoe::jinja
