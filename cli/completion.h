// Completion scripts for shells.
#pragma once

#include <string>

#include "cli/option_tree.h"

namespace odmoe::cli {

std::string bash_completion(const CommandNode& program);
std::string zsh_completion(const CommandNode& program);
std::string fish_completion(const CommandNode& program);

}  // namespace odmoe::cli
