#include "hub/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "temp_dir.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kCachedCommit(40, 'c');
const std::string kCachedHash(64, 'd');

class Cache : public ::testing::Test {
 protected:
  void put(const fs::path& path, const std::string& text) const {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  odmoe::testing::TempDir dir_;
  CachedRepo repo_{dir_.path(), "o/r"};
};

TEST_F(Cache, HasTheLayoutOfHuggingfaceHub) {
  EXPECT_EQ(repo_.blob(kCachedHash), dir_ / "models--o--r/blobs" / kCachedHash);
  EXPECT_EQ(repo_.incomplete(kCachedHash), dir_ / "models--o--r/blobs" / (kCachedHash + ".incomplete"));
  EXPECT_EQ(repo_.lock(kCachedHash), dir_ / ".locks/models--o--r" / (kCachedHash + ".lock"));
  EXPECT_EQ(repo_.file(kCachedCommit, "a/m.gguf"),
            dir_ / "models--o--r/snapshots" / kCachedCommit / "a/m.gguf");
}

TEST_F(Cache, ALinkIsRelativeAndLeadsToTheBlob) {
  put(repo_.blob(kCachedHash), "weights");
  ASSERT_TRUE(repo_.link(kCachedCommit, "a/m.gguf", kCachedHash).has_value());
  EXPECT_EQ(fs::read_symlink(repo_.file(kCachedCommit, "a/m.gguf")),
            fs::path("../../../blobs") / kCachedHash);
  ASSERT_TRUE(repo_.link(kCachedCommit, "a/m.gguf", kCachedHash).has_value());
  const Listing listing = repo_.listing(kCachedCommit);
  ASSERT_EQ(listing.files.size(), 1);
  EXPECT_EQ(listing.files[0].path, "a/m.gguf");
  EXPECT_EQ(listing.files[0].bytes, 7);
  EXPECT_EQ(listing.files[0].content_id, kCachedHash);
}

TEST_F(Cache, ALinkToWhatIsGoneIsNotListedAndIsMadeAnew) {
  put(repo_.blob("gone"), "");
  ASSERT_TRUE(repo_.link(kCachedCommit, "m.gguf", "gone").has_value());
  fs::remove(repo_.blob("gone"));
  EXPECT_THAT(repo_.listing(kCachedCommit).files, IsEmpty());
  put(repo_.blob(kCachedHash), "weights");
  ASSERT_TRUE(repo_.link(kCachedCommit, "m.gguf", kCachedHash).has_value());
  EXPECT_EQ(repo_.listing(kCachedCommit).files.size(), 1);
}

TEST_F(Cache, RemembersWhatABranchWas) {
  EXPECT_FALSE(repo_.commit_of("main").has_value());
  ASSERT_TRUE(repo_.remember("main", kCachedCommit).has_value());
  ASSERT_TRUE(repo_.remember("refs/pr/1", kCachedCommit).has_value());
  EXPECT_EQ(repo_.commit_of("main"), kCachedCommit);
  EXPECT_EQ(repo_.commit_of("refs/pr/1"), kCachedCommit);
  EXPECT_THAT(repo_.revisions_of(kCachedCommit), ElementsAre("main"));
  ASSERT_TRUE(repo_.remember(kCachedCommit, kCachedCommit).has_value());
  EXPECT_FALSE(fs::exists(dir_ / "models--o--r/refs" / kCachedCommit));
}

TEST_F(Cache, ACommitIsKnownByItsSnapshot) {
  EXPECT_FALSE(repo_.commit_of(kCachedCommit).has_value());
  put(repo_.file(kCachedCommit, "m.gguf"), "x");
  EXPECT_EQ(repo_.commit_of(kCachedCommit), kCachedCommit);
  EXPECT_THAT(repo_.commits(), ElementsAre(kCachedCommit));
}

TEST_F(Cache, DamagedNamesOfCommitsAreNotTaken) {
  put(dir_ / "models--o--r/refs/main", "../../elsewhere");
  EXPECT_FALSE(repo_.commit_of("main").has_value());
}

TEST_F(Cache, RepositoriesAreFoundByTheirFolders) {
  for (const char* name :
       {"models--o--r", "models--a--b-c", "datasets--x--y", "models--gpt2", "models--..--x", ".locks"}) {
    fs::create_directories(dir_ / name);
  }
  EXPECT_THAT(cached_repos(dir_.path()), ElementsAre("a/b-c", "o/r"));
  EXPECT_THAT(cached_repos(dir_ / "none"), IsEmpty());
}

}  // namespace
}  // namespace odmoe::hub
