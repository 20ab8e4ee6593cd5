// Files that are read and replaced as a whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// All of a regular file.  Errors, each naming it: kNotFound, kIo; kBadFile when it is not a regular file or
// has more than `most_bytes`.
Result<std::vector<std::byte>> read_whole(const std::filesystem::path& path, uint64_t most_bytes);
Result<std::string> read_whole_text(const std::filesystem::path& path, uint64_t most_bytes);

// Writes beside `path` and renames once all is on the drive: whoever reads `path` sees the old bytes or the
// new ones, also after a crash.  kIo, and then the draft is removed.
Status replace_whole(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace odmoe
