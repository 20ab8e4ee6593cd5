#include "base/program_path.h"

#include <system_error>

#ifdef __APPLE__
#include <mach-o/dyld.h>

#include <cstdint>
#include <string>
#endif

namespace odmoe {

std::filesystem::path program_path() {
  std::error_code error;
#ifdef __APPLE__
  uint32_t size = 0;
  (void)_NSGetExecutablePath(nullptr, &size);  // says how long it is
  std::string path(size, '\0');
  if (_NSGetExecutablePath(path.data(), &size) != 0) return {};
  return std::filesystem::canonical(path.c_str(), error);
#else
  return std::filesystem::read_symlink("/proc/self/exe", error);
#endif
}

}  // namespace odmoe
