// The file in which it is kept what trials of prefetching have shown (io/kept_file.h), so that a short run
// need not pay for them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "engine/prefetch_governor.h"
#include "odmoe/result.h"

namespace odmoe {

// Nothing when KeptFile has none, or what it says makes no sense.
std::optional<PrefetchGovernor::Experience> load_experience(const std::filesystem::path& file,
                                                            const std::string& key);

// As KeptFile::save() does.
Status save_experience(const std::filesystem::path& file, const std::string& key,
                       const PrefetchGovernor::Experience& experience);

}  // namespace odmoe
