// Reference data that is kept compressed.
#pragma once

#include <filesystem>

namespace odmoe::testing {

// Writes what `packed`, an .xz file, holds to `path`, and returns `path`.  A failure is a test's.
std::filesystem::path unpack_xz(const std::filesystem::path& packed, const std::filesystem::path& path);

}  // namespace odmoe::testing
