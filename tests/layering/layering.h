// The architecture as a rule that can be checked: an arrow between two folders points to a lower level.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe::testing {

// The level of a module's folder, or of `odmoe`, the public headers; nothing for a name that is not a module.
// Two modules of one level do not know each other.
std::optional<int> module_level(std::string_view module);

// Every edge of the sources and CMake lists below `root` (its src/, cli/ and include/) that does not point
// down, as "src/io/file.cc:12: io (1) must not include format (2): format/gguf_file.h".
std::vector<std::string> layering_violations(const std::filesystem::path& root);

}  // namespace odmoe::testing
