// A directory for what clients said, which nobody else on the machine may read.
#pragma once

#include <filesystem>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe::server {

// Makes it, if it is not there, open to its owner alone.  kUsage, naming the option that it was given with,
// when it is another user's, when others can get at it, or when no files can be made in it.
Status prepare_private_directory(std::string_view option, const std::filesystem::path& directory);

}  // namespace odmoe::server
