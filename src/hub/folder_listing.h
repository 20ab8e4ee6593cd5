// Folders as they are on the disk, whatever else changes them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hub/listing.h"

namespace odmoe::hub {

// The names in a folder, sorted; empty where it cannot be read.
std::vector<std::string> names_in(const std::filesystem::path& folder);

// Its regular files and those of the folders in it, and what links lead to.  Where a link's target is named
// by a hash, that is the content's.  Links to what is not there are left out.
std::vector<ListedFile> files_below(const std::filesystem::path& folder);

}  // namespace odmoe::hub
