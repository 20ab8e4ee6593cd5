// The file in which it is kept what drives can do, so that each is tried out once.
//
//   {"version": 1, "drives": {"nvme0n1 ... io_uring 6.12.0": {"depth": 16, "read_bytes": 524288, ...}}}
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "io/drive_probe.h"
#include "odmoe/result.h"

namespace odmoe {

// What a profile is kept under: it holds for this drive, read by this reader, under this version of the
// system.
std::string drive_key(std::string_view drive_id, std::string_view reader_name);

// Nothing when there is no such file, it is not one of ours, it is damaged, or what it says makes no sense:
// the drive is then tried out anew.
std::optional<DriveProfile> load_profile(const std::filesystem::path& file, const std::string& key);

// Adds or replaces one profile, keeping the others, and makes the folders that are missing.  Readers and
// other writers see the old file or the new one.  kIo when it cannot be written.
Status save_profile(const std::filesystem::path& file, const std::string& key, const DriveProfile& profile);

}  // namespace odmoe
