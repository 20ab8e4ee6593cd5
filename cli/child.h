// Programs that this one runs for a part of its work.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe::cli {

// Runs a program with our standard streams until it ends; its exit code, 128 + N if signal N ended it. Ctrl-C
// reaches it as it reaches us.  kIo when it cannot be started.
Result<int> run_child(const std::filesystem::path& program, const std::vector<std::string>& arguments);

}  // namespace odmoe::cli
