#include "cli/drive_cache.h"

#include <cstdlib>

namespace odmoe::cli {
namespace {

// An absolute path from the environment; a relative one would mean another place in every folder.
std::filesystem::path folder(const char* variable) {
  const char* const value = std::getenv(variable);
  const std::filesystem::path path = value == nullptr ? "" : value;
  return path.is_absolute() ? path : std::filesystem::path();
}

}  // namespace

std::filesystem::path default_drive_file() {
  std::filesystem::path cache = folder("XDG_CACHE_HOME");
  if (cache.empty()) {
    const std::filesystem::path home = folder("HOME");
    if (home.empty()) return {};
#ifdef __APPLE__
    cache = home / "Library/Caches";
#else
    cache = home / ".cache";
#endif
  }
  return cache / "odmoe" / "drives.json";
}

}  // namespace odmoe::cli
