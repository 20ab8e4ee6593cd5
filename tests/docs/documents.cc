#include "docs/documents.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <regex>
#include <set>
#include <string_view>

#include "odmoe/format.h"

namespace odmoe::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kRoots = {"", "src", "include", "src/model"};
constexpr std::array<std::string_view, 8> kExtensions = {".cc", ".h",     ".py", ".sh",
                                                         ".md", ".cmake", ".js", ".txt"};
// Of these even a name without a folder is one of ours.
constexpr std::array<std::string_view, 2> kSources = {".cc", ".h"};
// Folders that hold data, or what builds and tools make.
constexpr std::array<std::string_view, 5> kPassedOver = {"build", "shared", "data", "corpus", "node_modules"};

struct Repository {
  fs::path root;
  std::vector<fs::path> documents;   // sorted
  std::set<std::string> file_names;  // of all files, without their folders
};

Repository look_over(const fs::path& root) {
  Repository repository{.root = root, .documents = {}, .file_names = {}};
  for (fs::recursive_directory_iterator it(root), end; it != end; ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name.starts_with('.') || std::ranges::contains(kPassedOver, name))) {
      it.disable_recursion_pending();
    }
    if (!it->is_regular_file()) continue;
    repository.file_names.insert(name);
    if (it->path().extension() == ".md") repository.documents.push_back(it->path());
  }
  std::ranges::sort(repository.documents);
  return repository;
}

bool is_path(const fs::path& root, const std::string& word) {
  const fs::path path(word);
  if (!word.contains('/')) return std::ranges::contains(kSources, path.extension().string());
  return !word.starts_with('/') && (std::ranges::contains(kExtensions, path.extension().string()) ||
                                    fs::is_directory(root / *path.begin()));
}

bool exists_somewhere(const Repository& repository, const std::string& word) {
  static const std::regex any_name("(^|/)[A-Z]+[._][a-z._]+$");
  if (std::regex_search(word, any_name)) return true;
  if (!word.contains('/')) return repository.file_names.contains(word);
  return std::ranges::any_of(
      kRoots, [&](std::string_view from) { return fs::exists(repository.root / from / word); });
}

void look_into(const Repository& repository, const fs::path& document, std::vector<std::string>& missing) {
  const fs::path& root = repository.root;
  static const std::regex backticks("`([A-Za-z0-9_./-]+)`"), links("\\]\\(([A-Za-z0-9_./-]+)(#[^)]*)?\\)");
  std::ifstream file(document);
  std::string line;
  const auto words = [&](const std::regex& form, const auto& use) {
    for (std::sregex_iterator it(line.begin(), line.end(), form), end; it != end; ++it) use((*it)[1].str());
  };
  for (int number = 1; std::getline(file, line); ++number) {
    const auto complain = [&](const std::string& word) {
      missing.push_back(
          odmoe::format("{}:{}: {}", fs::relative(document, root).generic_string(), number, word));
    };
    words(backticks, [&](const std::string& word) {
      if (is_path(root, word) && !exists_somewhere(repository, word)) complain(word);
    });
    words(links, [&](const std::string& word) {
      if (!fs::exists(document.parent_path() / word)) complain(word);
    });
  }
}

}  // namespace

std::vector<std::string> missing_paths(const fs::path& root) {
  const Repository repository = look_over(root);
  std::vector<std::string> missing;
  for (const fs::path& document : repository.documents) look_into(repository, document, missing);
  return missing;
}

}  // namespace odmoe::testing
