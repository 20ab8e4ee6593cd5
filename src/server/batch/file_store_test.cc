#include "server/batch/file_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "server/batch/upload_form.h"
#include "server/limits.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class FileStoreTest : public ::testing::Test {
 protected:
  FileStoreTest() { open(); }
  void open(uint64_t disk_bytes = kMiB) {
    store_.reset();
    store_ = FileStore::open(dir_.path(), disk_bytes, [this] { return now_; }).value();
  }
  ApiResult<StoredFile> add(const std::string& text, const std::string& owner = "me", int64_t expires = 0,
                            const std::string& purpose = "batch") {
    ODMOE_ASSIGN_OR_RETURN(auto upload, store_->begin());
    ODMOE_RETURN_IF_ERROR(upload.write(text));
    return upload.finish({.owner = owner, .name = "in.jsonl", .purpose = purpose, .expires = expires});
  }
  std::string content(const std::string& id) const {
    std::ifstream file(store_->path_of(id), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> ids(const PageQuery& query, const std::string& purpose = "") {
    std::vector<std::string> ids;
    const auto page = store_->list("me", purpose, query);
    if (!page.has_value()) return {page.error().param};
    for (const StoredFile& file : page->items) ids.push_back(file.id);
    if (page->more) ids.emplace_back("more");
    return ids;
  }
  size_t n_on_drive() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(dir_.path()), {}));
  }

  odmoe::testing::TempDir dir_;
  int64_t now_ = 1000;
  std::unique_ptr<FileStore> store_;
};

TEST_F(FileStoreTest, AFileIsThereUntilItIsDeletedAlsoAfterARestart) {
  const StoredFile file = add("abc").value();
  EXPECT_EQ(
      file_json(file).dump(),
      "{\"id\":\"" + file.id +
          R"(","object":"file","bytes":3,"created_at":1000,"filename":"in.jsonl","purpose":"batch","status":"processed","status_details":null})");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(store_->find(file.id, "me")->bytes, 3U);
    EXPECT_EQ(content(file.id), "abc");
    EXPECT_EQ(store_->used_bytes(), 3 + FileStore::kFileBytes);
    open();
  }
  EXPECT_TRUE(store_->remove(file.id, "me").value());
  EXPECT_FALSE(store_->remove(file.id, "me").value());
  EXPECT_FALSE(store_->find(file.id, "me"));
  EXPECT_EQ(store_->used_bytes(), 0U);
  EXPECT_EQ(n_on_drive(), 0U);
}

TEST_F(FileStoreTest, NobodySeesAnothersFiles) {
  const std::string id = add("abc").value().id;
  EXPECT_FALSE(store_->find(id, "you"));
  EXPECT_FALSE(store_->remove(id, "you").value());
  EXPECT_FALSE(store_->open_content(id, "you"));
  EXPECT_FALSE(store_->hold(id, "you"));
  EXPECT_THAT(store_->list("you", "", {.limit = 10}).value().items, IsEmpty());
  for (const char* path : {"..", "../files", "/etc/passwd", "", ".", "file-"}) {
    EXPECT_FALSE(store_->open_content(path, "me")) << path;
  }
}

TEST_F(FileStoreTest, ListsComeByThePage) {
  const std::string a = add("a").value().id, b = add("b").value().id, c = add("c").value().id;
  EXPECT_THAT(ids({.limit = 10}), ElementsAre(c, b, a));
  EXPECT_THAT(ids({.limit = 2}), ElementsAre(c, b, "more"));
  EXPECT_THAT(ids({.limit = 2, .after = b}), ElementsAre(a));
  EXPECT_THAT(ids({.limit = 1, .descending = false, .after = a}), ElementsAre(b, "more"));
  EXPECT_THAT(ids({.limit = 1, .after = "file-none"}), ElementsAre("after"));
  EXPECT_THAT(ids({.limit = 10}, "batch_output"), IsEmpty());
  open();
  EXPECT_THAT(ids({.limit = 10, .descending = false}), ElementsAre(a, b, c))
      << "the order outlives a restart";
}

TEST_F(FileStoreTest, APageIsNoLongerThanItMayBe) {
  for (int i = 0; i < 250; ++i) ASSERT_TRUE(add("").has_value());
  const auto page = store_->list("me", "", {.limit = 10'000}).value();
  EXPECT_TRUE(page.more);
  EXPECT_LT(page.items.size(), 250U);
  EXPECT_GT(page.items.size(), 100U);
  EXPECT_EQ(ids({.limit = 10'000, .after = page.items.back().id}).size(), 250 - page.items.size());
}

TEST_F(FileStoreTest, WhatDoesNotFitIsRefusedAndLeavesNothing) {
  open(2 * FileStore::kFileBytes + 100);
  const std::string first = add(std::string(60, 'x')).value().id;
  const auto second = add(std::string(60, 'x'));
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().status, 413);
  EXPECT_EQ(second.error().code, "batch_disk_full");
  EXPECT_THAT(second.error().message, HasSubstr("--batch-disk"));
  EXPECT_EQ(n_on_drive(), 2U);
  EXPECT_EQ(store_->used_bytes(), 60 + FileStore::kFileBytes);
  EXPECT_TRUE(add(std::string(40, 'x')).has_value());
  EXPECT_EQ(add("").error().code, "batch_disk_full");
  ASSERT_TRUE(store_->remove(first, "me").value());
  EXPECT_FALSE(store_->keep_room("b", FileStore::kFileBytes + 61)) << "batches write as well";
  EXPECT_EQ(add("").error().code, "batch_disk_full");
  EXPECT_TRUE(store_->keep_room("b", 0));
  EXPECT_TRUE(add("").has_value());
}

// So many bytes, which go all at once or so many at a time.
class FakeSpare final : public SpareFiles {
 public:
  explicit FakeSpare(uint64_t bytes) : left(bytes) {}
  uint64_t bytes() const override { return left; }
  void give_up(uint64_t bytes) override {
    ++asked;
    left -= std::min(left, bytes);
  }
  uint64_t left;
  int asked = 0;
};

TEST_F(FileStoreTest, WhatIsSpareGivesWayToAFile) {
  FakeSpare spare(1000);
  store_ =
      FileStore::open(dir_.path(), FileStore::kFileBytes + 1000, [this] { return now_; }, &spare).value();
  EXPECT_EQ(store_->used_bytes(), 1000U);
  EXPECT_TRUE(store_->has_room(FileStore::kFileBytes));
  EXPECT_FALSE(store_->has_room(FileStore::kFileBytes + 1));
  ASSERT_TRUE(store_->keep_room("a", 100)) << "what batches write needs its room";
  EXPECT_EQ(spare.left, 1000U);
  ASSERT_TRUE(add(std::string(300, 'x')).has_value());
  EXPECT_EQ(spare.left, 600U) << "no more than has to go";
  const int asked = spare.asked;
  ASSERT_FALSE(add("").has_value()) << "that would not do";
  EXPECT_EQ(spare.asked, asked);
  EXPECT_EQ(spare.left, 600U);
  EXPECT_FALSE(store_->keep_room("b", 601));
  EXPECT_TRUE(store_->keep_room("b", 600)) << "of each batch apart";
  EXPECT_EQ(spare.left, 0U);
  EXPECT_EQ(store_->used_bytes(), store_->disk_bytes());
  store_.reset();  // before what it gives up
}

TEST_F(FileStoreTest, AClientIsNotToldOfTheDrive) {
  std::filesystem::remove_all(dir_.path());
  const auto refused = add("a");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, 500);
  EXPECT_THAT(refused.error().message, Not(HasSubstr(dir_.path().string())));
}

TEST_F(FileStoreTest, AFileThatIsNeededStays) {
  const std::string id = add("a", "me", 1500).value().id;
  ASSERT_TRUE(store_->hold(id, "me"));
  const auto refused = store_->remove(id, "me");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, "file_in_use");
  now_ = 2000;
  EXPECT_TRUE(store_->find(id, "me")) << "nor does it expire";
  store_->release(id);
  EXPECT_FALSE(store_->find(id, "me"));
  EXPECT_EQ(n_on_drive(), 0U);
}

TEST_F(FileStoreTest, RoomForBatchesIsMadeOfFilesThatExpired) {
  open(FileStore::kFileBytes + 100);
  ASSERT_TRUE(add("a", "me", 1500).has_value());
  EXPECT_FALSE(store_->keep_room("b", 200));
  now_ = 2000;
  EXPECT_TRUE(store_->keep_room("b", 200));
  EXPECT_EQ(store_->used_bytes(), 200U);
}

TEST_F(FileStoreTest, WhatWasReadWhileItGoesIsStillReadable) {
  const std::string id = add("abc").value().id;
  const FileDescriptor file = store_->open_content(id, "me");
  ASSERT_TRUE(store_->remove(id, "me").value());
  EXPECT_TRUE(file);
}

TEST_F(FileStoreTest, WhatACrashLeavesIsRemovedAndNothingElse) {
  const StoredFile file = add("abc").value();
  const StoredFile short_one = add("abcd").value(), lost = add("x").value(), broken = add("y").value();
  dir_.write("notes.txt", "mine");
  dir_.write("file-000000000000000000000000", "bytes without a description");
  dir_.write("file-000000000000000000000001.part", "unfinished");
  dir_.write("file-000000000000000000000002.json.tmp", "{");
  dir_.write(short_one.id, "abc");
  std::filesystem::remove(dir_ / lost.id);
  dir_.write(broken.id + ".json", "{\"id\":");
  open();
  EXPECT_THAT(ids({.limit = 10}), ElementsAre(file.id));
  EXPECT_EQ(n_on_drive(), 3U);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "notes.txt"));
}

TEST_F(FileStoreTest, AnOutputTakesThePlaceOfOneThatWasWrittenBefore) {
  const std::string id = new_stored_id("file-");
  for (const char* text : {"half", "all of it"}) {
    auto upload = store_->begin_output(id).value();
    ASSERT_TRUE(upload.write(text).has_value());
    ASSERT_TRUE(upload.finish({.owner = "me", .name = "out", .purpose = "batch_output"}).has_value());
  }
  EXPECT_EQ(content(id), "all of it");
  EXPECT_EQ(store_->used_bytes(), 9 + FileStore::kFileBytes);
  EXPECT_THAT(ids({.limit = 10}, "batch_output"), ElementsAre(id));
}

TEST(ShownFileName, HasNoFoldersAndNothingThatCannotBeShown) {
  EXPECT_EQ(shown_file_name("in.jsonl"), "in.jsonl");
  EXPECT_EQ(shown_file_name("../../etc/passwd"), "passwd");
  EXPECT_EQ(shown_file_name("C:\\x\\y.jsonl"), "y.jsonl");
  EXPECT_EQ(shown_file_name(std::string_view("a\0b\nc\x7F\xFF", 7)), "abc");
  EXPECT_EQ(shown_file_name("/"), "file");
  EXPECT_EQ(shown_file_name(""), "file");
  EXPECT_EQ(shown_file_name(std::string(1000, 'x')).size(), kMaxFileNameBytes);
  std::string euros;
  for (int i = 0; i < 200; ++i) euros += "\xE2\x82\xAC";
  EXPECT_EQ(shown_file_name(euros).size() % 3, 0U);
}

}  // namespace
}  // namespace odmoe::server
