#include "hub/folder_listing.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "hub/names.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxEntries = 100'000;  // of a folder
constexpr int kMaxDepth = 16;            // links may lead in circles

void add_files(const fs::path& folder, const std::string& prefix, int depth, std::vector<ListedFile>& files) {
  for (const std::string& name : names_in(folder)) {
    if (files.size() >= kMaxListedFiles) return;
    std::error_code error;
    const fs::file_status status = fs::status(folder / name, error);
    const std::string path = prefix + name;
    if (fs::is_directory(status)) {
      if (depth < kMaxDepth) add_files(folder / name, path + "/", depth + 1, files);
    } else if (fs::is_regular_file(status) && is_plain_path(path)) {
      ListedFile file{.path = path, .bytes = fs::file_size(folder / name, error), .content_id = {}};
      if (error) continue;
      const std::string target = fs::read_symlink(folder / name, error).filename().string();
      if (!error && (is_hex(target, 64) || is_hex(target, 40))) file.content_id = target;
      files.push_back(std::move(file));
    }
  }
}

}  // namespace

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end && names.size() < kMaxEntries;
       at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<ListedFile> files_below(const fs::path& folder) {
  std::vector<ListedFile> files;
  add_files(folder, "", 0, files);
  return files;
}

}  // namespace odmoe::hub
