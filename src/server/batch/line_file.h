// Files of whole lines that a batch goes on from, whatever ended it in the middle of one.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/file_descriptor.h"
#include "odmoe/result.h"

namespace odmoe::server {

// kIo: what failed, where, and what to do.
std::unexpected<Error> batch_file_error(const char* what, const std::filesystem::path& path, int error);

// "CHECKSUM ENTRY", with the line's end; and the entry of such a line, without it.  Nothing: it is none.
std::string checked_line(std::string_view entry);
std::optional<std::string_view> entry_of_checked_line(std::string_view line);

// Calls take(line, where it begins) for each whole line from `offset` on, as long as it gives true.
Status each_batch_line(const FileDescriptor& file, const std::filesystem::path& path, uint64_t offset,
                       const std::function<Result<bool>(std::string_view line, uint64_t offset)>& take);

// Behind `bytes`, which grows; what does not fit leaves nothing.  `line` with its end.
Status write_whole_line(const FileDescriptor& file, const std::filesystem::path& path, uint64_t& bytes,
                        std::string_view line);

}  // namespace odmoe::server
