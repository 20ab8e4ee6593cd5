// Where the running program lies.
#pragma once

#include <filesystem>

namespace odmoe {

// The executable's own path, links resolved; empty where the system does not tell.
std::filesystem::path program_path();

}  // namespace odmoe
