#include "io/file_stamp.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "io/testing.h"

namespace odmoe {
namespace {

namespace fs = std::filesystem;

// Until a change of another file would have another time than the file's last.
void wait_for_tick(const TemporaryFolder& folder, const fs::path& file) {
  const int64_t last = stamp_of(file).value().changed_ns;
  const std::byte nothing{};
  while (stamp_of(folder.write("clock", {&nothing, 1})).value().changed_ns <= last)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

class FileStampTest : public ::testing::Test {
 protected:
  FileStampTest() : path_(folder_.write("model.gguf", pattern(5000, 1))) { wait_for_tick(folder_, path_); }
  TemporaryFolder folder_;
  fs::path path_;
};

TEST_F(FileStampTest, StaysWhileAFileIsOnlyRead) {
  const FileStamp before = stamp_of(path_).value();
  EXPECT_EQ(before.bytes, 5000U);
  std::ifstream(path_).get();
  EXPECT_EQ(stamp_of(path_).value(), before);
  const fs::path link = folder_.path() / "link";
  fs::create_symlink(path_, link);
  EXPECT_EQ(stamp_of(link).value(), before);
}

TEST_F(FileStampTest, ShowsAByteThatChangedInPlaceWhenTheTimeIsPutBack) {
  const FileStamp before = stamp_of(path_).value();
  const auto modified = fs::last_write_time(path_);
  std::fstream(path_, std::ios::binary | std::ios::in | std::ios::out).put('x');
  fs::last_write_time(path_, modified);
  const FileStamp after = stamp_of(path_).value();
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_EQ(after.modified_ns, before.modified_ns);
  EXPECT_NE(after, before);
  EXPECT_NE(after.text(), before.text());
}

TEST_F(FileStampTest, ShowsAnotherFileInItsPlaceWithTheSameSizeAndTime) {
  const FileStamp before = stamp_of(path_).value();
  const auto modified = fs::last_write_time(path_);
  const fs::path other = folder_.write("other", pattern(5000, 2));
  fs::last_write_time(other, modified);
  fs::rename(other, path_);
  EXPECT_EQ(stamp_of(path_).value().modified_ns, before.modified_ns);
  EXPECT_NE(stamp_of(path_).value(), before);
}

TEST_F(FileStampTest, SaysWhichFileIsGone) {
  fs::remove(path_);
  const auto stamp = stamp_of(path_);
  ASSERT_FALSE(stamp.has_value());
  EXPECT_EQ(stamp.error().kind, ErrorKind::kIo);
  EXPECT_TRUE(stamp.error().message.contains(path_.string())) << stamp.error().message;
}

}  // namespace
}  // namespace odmoe
