#include "hub/local_models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "hub/cache.h"
#include "hub/lm_studio.h"
#include "hub/names.h"
#include "temp_dir.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LocalModels : public ::testing::Test {
 protected:
  void put(const fs::path& path, const std::string& text = "GGUF") const {
    fs::create_directories((dir_ / path.string()).parent_path());
    std::ofstream(dir_ / path.string()) << text;
  }
  void cache(const std::string& repo_id, char commit, const std::string& path, char id) const {
    const CachedRepo repo(dir_ / "hub", repo_id);
    fs::create_directories(repo.blobs());
    std::ofstream(repo.blob(std::string(64, id))) << "GGUF" << id;
    ASSERT_TRUE(repo.link(std::string(40, commit), path, std::string(64, id)).has_value());
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const LocalModel& model :
         local_models({.hub_cache = dir_ / "hub", .ollama = {dir_ / "ollama"}, .lm_studio = {dir_ / "lm"}}))
      names.push_back(model.name + (model.wrong.empty() ? "" : " (" + model.wrong + ")"));
    return names;
  }

  odmoe::testing::TempDir dir_;
};

TEST_F(LocalModels, AreNamedAsTheyAreFound) {
  cache("o/r", 'a', "m-Q4_K_M.gguf", '1');
  cache("o/r", 'a', "m-Q8_0.gguf", '2');
  cache("o/r", 'a', "README.md", '3');
  ASSERT_TRUE(CachedRepo(dir_ / "hub", "o/r").remember("main", std::string(40, 'a')).has_value());
  put("lm/pub/rep/x-Q4_K_M.gguf");
  put("lm/pub/rep/y-Q4_K_M.gguf");
  put("ollama/manifests/registry.ollama.ai/library/q/latest", "{");
  EXPECT_THAT(names(), ElementsAre("hf:o/r:Q4_K_M", "hf:o/r:Q8_0", HasSubstr("ollama:q ("),
                                   "lmstudio:pub/rep/x-Q4_K_M.gguf", "lmstudio:pub/rep/y-Q4_K_M.gguf"));
}

TEST_F(LocalModels, ASplitModelIsOneEntry) {
  cache("o/r", 'a', "m-Q4_K_M-00001-of-00002.gguf", '1');
  cache("o/r", 'a', "m-Q4_K_M-00002-of-00002.gguf", '2');
  put("lm/pub/rep/m-Q2_K-00001-of-00003.gguf");
  const std::string commit(40, 'a');
  EXPECT_THAT(names(),
              ElementsAre("hf:o/r:Q4_K_M@" + commit, "lmstudio:pub/rep:Q2_K (1 of its 3 files are there)"));
}

TEST_F(LocalModels, WhatOlderCommitsShareWithTheNewestIsNotListedTwice) {
  cache("o/r", 'a', "m-Q4_K_M.gguf", '1');
  cache("o/r", 'b', "m-Q4_K_M.gguf", '1');
  cache("o/r", 'a', "m-Q8_0.gguf", '2');
  ASSERT_TRUE(CachedRepo(dir_ / "hub", "o/r").remember("main", std::string(40, 'b')).has_value());
  EXPECT_THAT(names(), ElementsAre("hf:o/r:Q4_K_M", "hf:o/r:Q8_0@" + std::string(40, 'a')));
}

TEST_F(LocalModels, WithoutFoldersThereAreNone) { EXPECT_THAT(names(), IsEmpty()); }

TEST_F(LocalModels, LmStudiosAreFoundByNameInAnyOfItsFolders) {
  put("lm/pub/rep/x-Q4_K_M.gguf");
  put("lm/pub/rep/x-Q8_0.gguf");
  const std::vector<fs::path> folders = {dir_ / "none", dir_ / "lm"};
  EXPECT_EQ(find_lm_studio_model(folders, *parse_repo_name("pub/rep:Q8_0")).value_or(""),
            dir_ / "lm/pub/rep/x-Q8_0.gguf");
  EXPECT_EQ(find_lm_studio_model(folders, *parse_repo_name("pub/rep")).value_or(""),
            dir_ / "lm/pub/rep/x-Q4_K_M.gguf");
  EXPECT_THAT(find_lm_studio_model(folders, *parse_repo_name("pub/none")).error().message,
              HasSubstr("LM Studio has no pub/none"));
}

}  // namespace
}  // namespace odmoe::hub
