// All models on this disk that can be named: the hub's cache, Ollama's and LM Studio's folders.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace odmoe::hub {

struct LocalFolders {
  std::filesystem::path hub_cache;
  std::vector<std::filesystem::path> ollama, lm_studio;
};

struct LocalModel {
  std::string name;            // that finds it: "hf:OWNER/REPO:Q4_K_M"
  std::filesystem::path path;  // of the first file; empty with `wrong`, where that is not known
  uint64_t bytes = 0;          // of all files
  int n_file = 1;
  std::string quantisation;  // by its name; may be empty
  std::string wrong;         // why it cannot be run from where it is; empty: nothing that the folders tell
};

// Sorted by where they are, then by name.  No model file is opened.  What cannot be read is left out.
std::vector<LocalModel> local_models(const LocalFolders& folders);

}  // namespace odmoe::hub
