#include "hub/cache.h"

#include <algorithm>
#include <span>
#include <system_error>
#include <utility>

#include "base/whole_file.h"
#include "hub/folder_listing.h"
#include "hub/names.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "models--", kSlash = "--";

std::unexpected<Error> cannot(std::string_view what, const fs::path& path, const std::error_code& error) {
  return fail(ErrorKind::kIo, "cannot {} {}: {}", what, path.string(), error.message());
}

std::string first_line(const fs::path& path) {
  const auto text = read_whole_text(path, 1024);
  return text.has_value() ? text->substr(0, text->find_first_of("\r\n")) : std::string();
}

}  // namespace

CachedRepo::CachedRepo(const fs::path& root, std::string_view repo_id) {
  std::string name(kPrefix);
  for (const char c : repo_id) {
    if (c == '/') {
      name += kSlash;
    } else {
      name += c;
    }
  }
  folder_ = root / name;
  locks_ = root / ".locks" / name;
}

fs::path CachedRepo::blob(std::string_view content_id) const { return blobs() / content_id; }

fs::path CachedRepo::incomplete(std::string_view content_id) const {
  return blobs() / (std::string(content_id) + ".incomplete");
}

fs::path CachedRepo::lock(std::string_view content_id) const {
  return locks_ / (std::string(content_id) + ".lock");
}

fs::path CachedRepo::file(std::string_view commit, std::string_view path) const {
  return folder_ / "snapshots" / commit / path;
}

std::optional<std::string> CachedRepo::commit_of(std::string_view revision) const {
  std::string commit = first_line(folder_ / "refs" / revision);
  if (is_hex(commit, 40)) return commit;
  std::error_code error;
  if (is_hex(revision, 40) && fs::is_directory(folder_ / "snapshots" / revision, error))
    return std::string(revision);
  return std::nullopt;
}

Listing CachedRepo::listing(std::string_view commit) const {
  return {.commit = std::string(commit),
          .architecture = {},
          .files = files_below(folder_ / "snapshots" / commit)};
}

std::vector<std::string> CachedRepo::commits() const {
  std::vector<std::string> commits = names_in(folder_ / "snapshots");
  std::erase_if(commits, [](const std::string& name) { return !is_hex(name, 40); });
  return commits;
}

std::vector<std::string> CachedRepo::revisions_of(std::string_view commit) const {
  std::vector<std::string> names;
  for (const std::string& name : names_in(folder_ / "refs")) {
    if (first_line(folder_ / "refs" / name) == commit) names.push_back(name);
  }
  return names;
}

Status CachedRepo::link(std::string_view commit, std::string_view path, std::string_view content_id) const {
  const fs::path place = file(commit, path);
  std::error_code error;
  if (fs::exists(place, error)) return {};
  fs::create_directories(place.parent_path(), error);
  if (error) return cannot("make", place.parent_path(), error);
  fs::remove(place, error);  // a link to what is gone
  const fs::path target = fs::relative(blobs(), place.parent_path(), error) / content_id;
  if (error) return cannot("find the way to", blobs(), error);
  fs::create_symlink(target, place, error);
  if (!error || error == std::errc::file_exists) return {};
  // exFAT, as drives are sold, has no links.
  fs::rename(blob(content_id), place, error);
  if (error) return cannot("make", place, error);
  return {};
}

Status CachedRepo::remember(std::string_view revision, std::string_view commit) const {
  if (revision == commit) return {};
  const fs::path place = folder_ / "refs" / revision;
  if (first_line(place) == commit) return {};
  std::error_code error;
  fs::create_directories(place.parent_path(), error);
  if (error) return cannot("make", place.parent_path(), error);
  return replace_whole(place, std::as_bytes(std::span(commit)));
}

std::vector<std::string> cached_repos(const fs::path& root) {
  std::vector<std::string> repos;
  for (const std::string& name : names_in(root)) {
    if (!name.starts_with(kPrefix)) continue;
    std::string repo = name.substr(kPrefix.size());
    const size_t slash = repo.find(kSlash);
    if (slash == std::string::npos) continue;
    repo.replace(slash, kSlash.size(), "/");
    if (parse_repo_name(repo).has_value()) repos.push_back(std::move(repo));
  }
  return repos;
}

}  // namespace odmoe::hub
