// The hub's own cache of files (huggingface_hub), so that what `hf download` brought is found and the other
// way round:
//
//   ROOT/models--OWNER--REPO/blobs/ID                    contents, by hash (listing.h)
//                           /blobs/ID.incomplete         the beginning of one that is on its way
//                           /snapshots/COMMIT/PATH       links to blobs
//                           /refs/REVISION               the commit that a branch or tag had last
//   ROOT/.locks/models--OWNER--REPO/ID.lock              held while a blob is being written
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/listing.h"
#include "odmoe/result.h"

namespace odmoe::hub {

// One repository in the cache.  Other programs change it at any time.  Names that come from elsewhere have to
// be plain (names.h) before they come here.
class CachedRepo {
 public:
  CachedRepo(const std::filesystem::path& root, std::string_view repo_id);

  std::filesystem::path blob(std::string_view content_id) const;
  std::filesystem::path incomplete(std::string_view content_id) const;
  std::filesystem::path lock(std::string_view content_id) const;
  std::filesystem::path file(std::string_view commit, std::string_view path) const;
  std::filesystem::path blobs() const { return folder_ / "blobs"; }

  // The commit that `revision` had when somebody asked the hub last, or is itself; nothing where the cache
  // does not know it.
  std::optional<std::string> commit_of(std::string_view revision) const;

  // What is there of a commit, with the hashes where links tell them.  Links to what is not there are left
  // out.
  Listing listing(std::string_view commit) const;
  std::vector<std::string> commits() const;
  std::vector<std::string> revisions_of(std::string_view commit) const;  // names that refs/ has for it

  // Makes a link to the blob; where the file system has none, moves it there.  Nothing where the file is
  // there already.  kIo.
  Status link(std::string_view commit, std::string_view path, std::string_view content_id) const;

  // Remembers which commit a branch or tag has.  kIo.
  Status remember(std::string_view revision, std::string_view commit) const;

 private:
  std::filesystem::path folder_, locks_;
};

// OWNER/REPO of each model repository in the cache, sorted.
std::vector<std::string> cached_repos(const std::filesystem::path& root);

}  // namespace odmoe::hub
