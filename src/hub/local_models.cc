#include "hub/local_models.h"

#include <algorithm>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "format/printable.h"
#include "hub/cache.h"
#include "hub/choice.h"
#include "hub/lm_studio.h"
#include "hub/names.h"
#include "hub/ollama.h"
#include "odmoe/format.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;

// What chooses `candidate` among the others: its quantisation where that says which, or else its file.
std::string way_to(const Candidate& candidate, const std::map<std::string, int>& n_of) {
  if (!candidate.quantisation.empty() && n_of.at(candidate.quantisation) == 1)
    return ":" + candidate.quantisation;
  return "/" + candidate.files.front().path;
}

void add_candidates(const Listing& listing, const std::string& prefix, const std::string& suffix,
                    const fs::path& folder, std::vector<LocalModel>& models) {
  const std::vector<Candidate> all = candidates(listing);
  std::map<std::string, int> n_of;
  for (const Candidate& candidate : all) ++n_of[candidate.quantisation];
  for (const Candidate& candidate : all) {
    LocalModel model{.name = odmoe::format("{}{}{}", prefix, way_to(candidate, n_of), suffix),
                     .path = folder / candidate.files.front().path,
                     .bytes = candidate.bytes,
                     .n_file = static_cast<int>(candidate.files.size()),
                     .quantisation = candidate.quantisation,
                     .wrong = {}};
    if (!candidate.complete()) {
      model.wrong = odmoe::format("{} of its {} files are there", candidate.files.size(), candidate.n_file);
    }
    models.push_back(std::move(model));
  }
}

// The newest of each revision; a commit without one only as far as it has what others have not.
void add_cached(const fs::path& root, const std::string& repo_id, std::vector<LocalModel>& models) {
  const CachedRepo repo(root, repo_id);
  std::vector<std::pair<std::string, std::string>> places;  // commit and what names it
  for (const std::string& commit : repo.commits()) {
    std::vector<std::string> revisions = repo.revisions_of(commit);
    const bool is_main = std::ranges::contains(revisions, "main");
    std::string suffix = "@" + (revisions.empty() ? commit : revisions.front());
    if (is_main) suffix.clear();
    places.insert(is_main ? places.begin() : places.end(), {commit, std::move(suffix)});
  }
  std::set<std::string> seen;
  for (const auto& [commit, suffix] : places) {
    Listing listing = repo.listing(commit);
    std::erase_if(listing.files, [&](const ListedFile& file) {
      return !file.content_id.empty() && !seen.insert(file.content_id).second;
    });
    add_candidates(listing, "hf:" + repo_id, suffix, repo.file(commit, ""), models);
  }
}

void add_ollama(const fs::path& folder, std::vector<LocalModel>& models) {
  for (const OllamaModel& found : ollama_models(folder)) {
    LocalModel model{.name = "ollama:" + found.name.shown(), .path = {}, .quantisation = {}, .wrong = {}};
    if (found.path.has_value()) {
      model.path = *found.path;
      std::error_code error;
      model.bytes = fs::file_size(model.path, error);
      if (error) model.bytes = 0;
    } else {
      model.wrong = found.path.error().message;
    }
    models.push_back(std::move(model));
  }
}

}  // namespace

std::vector<LocalModel> local_models(const LocalFolders& folders) {
  std::vector<LocalModel> models;
  for (const std::string& repo : cached_repos(folders.hub_cache)) add_cached(folders.hub_cache, repo, models);
  for (const fs::path& folder : folders.ollama) add_ollama(folder, models);
  for (const fs::path& folder : folders.lm_studio) {
    for (const std::string& repo : lm_studio_repos(folder)) {
      add_candidates(lm_studio_listing(folder, repo), "lmstudio:" + repo, "", folder / repo, models);
    }
  }
  return models;
}

}  // namespace odmoe::hub
