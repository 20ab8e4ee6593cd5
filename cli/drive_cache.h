// Where the program keeps what drives can do.
#pragma once

#include <filesystem>

namespace odmoe::cli {

// odmoe/drives.json in the user's cache folder: $XDG_CACHE_HOME, or ~/.cache, or ~/Library/Caches on macOS.
// Empty where the environment names none of these.
std::filesystem::path default_drive_file();

}  // namespace odmoe::cli
