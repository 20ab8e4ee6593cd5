// The manual page.
#pragma once

#include <string>

#include "cli/option_tree.h"

namespace odmoe::cli {

// In roff, section 1.
std::string man_page(const CommandNode& program);

}  // namespace odmoe::cli
