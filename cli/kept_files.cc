#include "cli/kept_files.h"

#include <cstdlib>

namespace odmoe::cli {
namespace {

// An absolute path from the environment; a relative one would mean another place in every folder.
std::filesystem::path folder(const char* variable) {
  const char* const value = std::getenv(variable);
  const std::filesystem::path path = value == nullptr ? "" : value;
  return path.is_absolute() ? path : std::filesystem::path();
}

#ifdef __APPLE__
constexpr const char* kCacheFolder = "Library/Caches";
constexpr const char* kStateFolder = "Library/Application Support";
#else
constexpr const char* kCacheFolder = ".cache";
constexpr const char* kStateFolder = ".local/state";
#endif

std::filesystem::path kept_file(const char* variable, const char* at_home, const char* name) {
  std::filesystem::path kept = folder(variable);
  if (kept.empty()) {
    const std::filesystem::path home = folder("HOME");
    if (home.empty()) return {};
    kept = home / at_home;
  }
  return kept / "odmoe" / name;
}

std::filesystem::path cache_file(const char* name) { return kept_file("XDG_CACHE_HOME", kCacheFolder, name); }

}  // namespace

std::filesystem::path default_drive_file() { return cache_file("drives.json"); }

std::filesystem::path default_prefetching_file() { return cache_file("prefetching.json"); }

std::filesystem::path default_device_file() { return cache_file("devices.json"); }

std::filesystem::path default_tuning_file() { return cache_file("tuning.json"); }

std::filesystem::path default_history_file() {
  return kept_file("XDG_STATE_HOME", kStateFolder, "chat_history");
}

}  // namespace odmoe::cli
