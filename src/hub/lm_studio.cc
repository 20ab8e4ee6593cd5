#include "hub/lm_studio.h"

#include <system_error>

#include "hub/choice.h"
#include "hub/folder_listing.h"

namespace odmoe::hub {

namespace fs = std::filesystem;

std::vector<std::string> lm_studio_repos(const fs::path& models) {
  std::vector<std::string> repos;
  for (const std::string& owner : names_in(models)) {
    for (const std::string& repo : names_in(models / owner)) {
      const std::string id = odmoe::format("{}/{}", owner, repo);
      std::error_code error;
      if (fs::is_directory(models / owner / repo, error) && parse_repo_name(id).has_value())
        repos.push_back(id);
    }
  }
  return repos;
}

Listing lm_studio_listing(const fs::path& models, std::string_view repo_id) {
  return {.commit = {}, .architecture = {}, .files = files_below(models / repo_id)};
}

Result<fs::path> find_lm_studio_model(const std::vector<fs::path>& folders, const RepoName& name) {
  for (const fs::path& models : folders) {
    const fs::path folder = models / name.id();
    std::error_code error;
    if (!fs::is_directory(folder, error)) continue;
    ODMOE_ASSIGN_OR_RETURN(const Candidate choice,
                           choose(lm_studio_listing(models, name.id()), name, folder.string()));
    return folder / choice.files.front().path;
  }
  return fail(ErrorKind::kNotFound, "LM Studio has no {}: `odmoe list` shows what there is", name.id());
}

}  // namespace odmoe::hub
