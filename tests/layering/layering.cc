#include "layering/layering.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::pair<std::string_view, int>, 19> kLevels = {{
    {"base", 0},    {"io", 1},      {"backend", 1}, {"jinja", 1},    {"format", 2},
    {"trace", 2},   {"store", 3},   {"predict", 3}, {"model", 3},    {"convert", 3},
    {"grammar", 3}, {"hub", 3},     {"engine", 4},  {"simulate", 4}, {"train", 4},
    {"server", 5},  {"cluster", 5}, {"mpi", 6},     {"cli", 6},
}};

// Public headers that are plain data, which every level may use; the others are what the engine implements.
constexpr std::array<std::string_view, 9> kPublicData = {
    "odmoe/format.h",        "odmoe/result.h",        "odmoe/chat.h",
    "odmoe/chat_template.h", "odmoe/encode_limits.h", "odmoe/left_over.h",
    "odmoe/options.h",       "odmoe/sampling.h",      "odmoe/stats.h"};
constexpr std::string_view kPublic = "odmoe";

// What computes with ggml's tensors.
constexpr std::array<std::string_view, 4> kComputes = {"predict", "model", "engine", "cluster"};

// CMake targets that are a part of a module.
std::string_view module_of_target(std::string_view target) {
  return target == "tokenizer" ? "model" : target;
}

std::string read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Checker {
 public:
  explicit Checker(fs::path root) : root_(std::move(root)) {}

  void source(const fs::path& path, std::string_view module) {
    std::istringstream text(read(path));
    std::string line;
    for (int number = 1; std::getline(text, line); ++number) {
      const std::string include = included(line);
      if (!include.empty()) edge(path, number, module, include);
      if (line.contains("std::format(")) {
        complain(path, number, "odmoe::format is compiled once, std::format in each file");
      }
      if (std::ranges::contains(kComputes, module) && takes_address_of_tensor(line)) {
        complain(path, number,
                 "where a tensor's values are is the backend's affair (backend/tensor_memory.h)");
      }
    }
  }

  void cmake(const fs::path& path) {
    const std::string text = read(path);
    for (size_t at = 0; (at = text.find("odmoe_module(", at)) != std::string::npos;) {
      at += std::string_view("odmoe_module(").size();
      std::istringstream words(text.substr(at, text.find(')', at) - at));
      std::string module, word;
      words >> module;
      bool depends = false;
      while (words >> word) {
        if (std::ranges::all_of(word, [](unsigned char c) { return std::isupper(c) != 0; })) {
          depends = word == "DEPENDS";
        } else if (depends) {
          link(path, module, word);
        }
      }
    }
  }

  std::vector<std::string> take() { return std::move(violations_); }

 private:
  void complain(const fs::path& path, int number, std::string_view what) {
    violations_.push_back(
        odmoe::format("{}:{}: {}", fs::relative(path, root_).generic_string(), number, what));
  }

  // `->data`, which is not a call.
  static bool takes_address_of_tensor(std::string_view line) {
    constexpr std::string_view kMember = "->data";
    const size_t at = line.find(kMember);
    if (at == std::string_view::npos) return false;
    const char next = at + kMember.size() < line.size() ? line[at + kMember.size()] : ' ';
    return next != '(' && next != '_' && std::isalnum(static_cast<unsigned char>(next)) == 0;
  }

  // The file that a line includes in quotes or brackets; empty: none.
  static std::string included(std::string_view line) {
    const auto skip = [&line] { line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size())); };
    skip();
    if (!line.starts_with('#')) return {};
    line.remove_prefix(1);
    skip();
    if (!line.starts_with("include")) return {};
    const size_t open = line.find_first_of("\"<");
    if (open == std::string_view::npos) return {};
    const size_t close = line.find_first_of("\">", open + 1);
    return std::string(line.substr(open + 1, close - open - 1));
  }

  void edge(const fs::path& path, int number, std::string_view from, const std::string& include) {
    const auto complain = [&](std::string_view what) {
      violations_.push_back(
          odmoe::format("{}:{}: {}: {}", fs::relative(path, root_).generic_string(), number, what, include));
    };
    if (include.starts_with("../") || include.find("/../") != std::string::npos) {
      return complain("an include names its folder from src/, not by ..");
    }
    if (from == "store" && include.starts_with("ggml")) return complain("store knows nothing of ggml");
    const std::string_view to = std::string_view(include).substr(0, include.find('/'));
    if (to == include || !module_level(to) || to == from) return;
    if (from == kPublic) return complain(odmoe::format("a public header must not include {}", to));
    if (to == kPublic && std::ranges::contains(kPublicData, include)) return;
    // The engine is what implements the public headers: it and what is above may include them.
    if (to == kPublic && module_level(from) >= module_level(kPublic)) return;
    if (*module_level(to) < *module_level(from)) return;
    complain(
        odmoe::format("{} ({}) must not include {} ({})", from, *module_level(from), to, *module_level(to)));
  }

  void link(const fs::path& path, std::string_view from_target, std::string_view to_target) {
    const std::string_view from = module_of_target(from_target), to = module_of_target(to_target);
    const auto below = module_level(to), above = module_level(from);
    if (from == to) return;
    if (!below || !above || *below >= *above) {
      violations_.push_back(odmoe::format("{}: {} must not depend on {}",
                                          fs::relative(path, root_).generic_string(), from_target,
                                          to_target));
    }
  }

  fs::path root_;
  std::vector<std::string> violations_;
};

bool is_source(const fs::path& path) { return path.extension() == ".cc" || path.extension() == ".h"; }

}  // namespace

std::optional<int> module_level(std::string_view module) {
  if (module == kPublic) return module_level("engine");
  const auto* found = std::ranges::find(kLevels, module, &std::pair<std::string_view, int>::first);
  if (found == kLevels.end()) return std::nullopt;
  return found->second;
}

std::vector<std::string> layering_violations(const fs::path& root) {
  Checker checker(root);
  std::vector<std::string> unknown;
  std::vector<std::pair<fs::path, std::string>> folders{{root / "cli", "cli"},
                                                        {root / "include" / "odmoe", "odmoe"}};
  for (const auto& entry : fs::directory_iterator(root / "src")) {
    if (!entry.is_directory()) continue;
    const std::string module = entry.path().filename().string();
    if (!module_level(module)) unknown.push_back("src/" + module + ": a folder that has no level");
    folders.emplace_back(entry.path(), module);
  }
  std::ranges::sort(folders);
  for (const auto& [folder, module] : folders) {
    if (!fs::exists(folder) || !module_level(module)) continue;
    std::set<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) files.insert(entry.path());
    for (const fs::path& file : files) {
      if (is_source(file)) checker.source(file, module);
      if (file.filename() == "CMakeLists.txt") checker.cmake(file);
    }
  }
  auto violations = checker.take();
  violations.insert(violations.begin(), unknown.begin(), unknown.end());
  return violations;
}

}  // namespace odmoe::testing
