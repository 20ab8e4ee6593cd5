#include "docs/documents.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <regex>
#include <string_view>

#include "odmoe/format.h"

namespace odmoe::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kRoots = {"", "src", "include", "src/model"};
constexpr std::array<std::string_view, 8> kExtensions = {".cc", ".h",     ".py", ".sh",
                                                         ".md", ".cmake", ".js", ".txt"};

bool is_path(const fs::path& root, const std::string& word) {
  if (!word.contains('/') || word.starts_with('/')) return false;
  const fs::path path(word);
  return std::ranges::contains(kExtensions, path.extension().string()) ||
         fs::is_directory(root / *path.begin());
}

bool exists_somewhere(const fs::path& root, const std::string& word) {
  static const std::regex any_name("(^|/)[A-Z]+\\.[a-z]+$");
  return std::regex_search(word, any_name) ||
         std::ranges::any_of(kRoots, [&](std::string_view from) { return fs::exists(root / from / word); });
}

void look_into(const fs::path& root, const fs::path& document, std::vector<std::string>& missing) {
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
      if (is_path(root, word) && !exists_somewhere(root, word)) complain(word);
    });
    words(links, [&](const std::string& word) {
      if (!fs::exists(document.parent_path() / word)) complain(word);
    });
  }
}

}  // namespace

std::vector<std::string> missing_paths(const fs::path& root) {
  std::vector<fs::path> documents = {root / "README.md", root / "CONTRIBUTING.md"};
  for (const auto& entry : fs::directory_iterator(root / "docs")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  std::ranges::sort(documents);
  std::vector<std::string> missing;
  for (const fs::path& document : documents) look_into(root, document, missing);
  return missing;
}

}  // namespace odmoe::testing
