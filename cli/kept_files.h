// Where the program keeps what it has found out about the machine, and what was typed.
#pragma once

#include <filesystem>

namespace odmoe::cli {

// odmoe/drives.json in the user's cache folder: $XDG_CACHE_HOME, or ~/.cache, or ~/Library/Caches on macOS.
// Empty where the environment names none of these.
std::filesystem::path default_drive_file();
// odmoe/prefetching.json beside it.
std::filesystem::path default_prefetching_file();
// odmoe/devices.json, likewise.
std::filesystem::path default_device_file();
// odmoe/tuning.json, likewise.
std::filesystem::path default_tuning_file();
// odmoe/chat_history in $XDG_STATE_HOME, or ~/.local/state, or ~/Library/Application Support on macOS; empty
// as above.
std::filesystem::path default_history_file();

}  // namespace odmoe::cli
