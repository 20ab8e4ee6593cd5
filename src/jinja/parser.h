// Tokens to the tree.
#pragma once

#include <memory>
#include <string_view>

#include "jinja/ast.h"

namespace odmoe::jinja {

// Raises kSyntax; also for what is nested deeper than kMaxNesting.
std::unique_ptr<Tree> parse(std::string_view source, bool wider);

}  // namespace odmoe::jinja
