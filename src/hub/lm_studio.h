// Models that LM Studio has on the disk: FOLDER/OWNER/REPO/FILE.gguf.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "hub/listing.h"
#include "hub/names.h"
#include "odmoe/result.h"

namespace odmoe::hub {

// OWNER/REPO of each folder below `models`, sorted.
std::vector<std::string> lm_studio_repos(const std::filesystem::path& models);
Listing lm_studio_listing(const std::filesystem::path& models, std::string_view repo_id);

// The first file of the model that is meant (choice.h), in the first of these folders that has the
// repository.  kNotFound, and those of choose().
Result<std::filesystem::path> find_lm_studio_model(const std::vector<std::filesystem::path>& folders,
                                                   const RepoName& name);

}  // namespace odmoe::hub
