// The file in which it is kept what drives can do (io/kept_file.h), so that each is tried out once.
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

// Nothing when KeptFile has none, or what it says makes no sense: the drive is then tried out anew.
std::optional<DriveProfile> load_profile(const std::filesystem::path& file, const std::string& key);

// As KeptFile::save() does.
Status save_profile(const std::filesystem::path& file, const std::string& key, const DriveProfile& profile);

}  // namespace odmoe
