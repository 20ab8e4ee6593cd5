#include "io/output_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "io/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST(OutputFile, WritesInOrderAndCountsBytes) {
  const TemporaryFolder folder;
  auto file = OutputFile::create(folder.path() / "out").value();
  ASSERT_TRUE(file.write("one ").has_value());
  ASSERT_TRUE(file.write("two").has_value());
  ASSERT_TRUE(file.sync().has_value());
  EXPECT_EQ(file.bytes(), 7U);
  EXPECT_EQ(text_of(folder.path() / "out"), "one two");
  ASSERT_TRUE(sync_directory(folder.path()).has_value());
}

TEST(OutputFile, APrivateOneIsItsOwnersAloneWhateverTheUmaskAndWhateverWasThere) {
  using std::filesystem::perms;
  const TemporaryFolder folder;
  const auto path = folder.path() / "private";
  const auto other = folder.path() / "other";
  const mode_t before = umask(0);
  for (const mode_t mask : {0U, 0022U, 0777U}) {
    umask(mask);
    for (const char* there : {"nothing", "a file of everybody", "a link"}) {
      std::filesystem::remove(path);
      if (there == std::string_view("a link")) std::filesystem::create_symlink(other, path);
      if (there == std::string_view("a file of everybody")) {
        std::ofstream(path) << "theirs";
        std::filesystem::permissions(path, static_cast<perms>(0666));
      }
      auto file = OutputFile::create_private(path);
      ASSERT_TRUE(file.has_value()) << file.error().message;
      ASSERT_TRUE(file->write("mine").has_value());
      const auto status = std::filesystem::symlink_status(path);
      EXPECT_EQ(status.type(), std::filesystem::file_type::regular) << there;
      EXPECT_EQ(status.permissions(), perms::owner_read | perms::owner_write) << there << " " << mask;
      EXPECT_EQ(text_of(path), "mine");
      EXPECT_FALSE(std::filesystem::exists(other)) << "a link is not followed";
    }
  }
  umask(before);
}

TEST(OutputFile, WritesTheSamePastThePageCache) {
  const TemporaryFolder folder;
  for (const size_t size : {size_t{1}, OutputFile::kStageBytes - 1, OutputFile::kStageBytes,
                            2 * OutputFile::kStageBytes + 4097}) {
    std::string text(size, ' ');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
    auto file = OutputFile::create(folder.path() / "out", /*direct=*/true).value();
    for (size_t at = 0; at < size; at += 100'003)
      ASSERT_TRUE(file.write(std::string_view(text).substr(at, 100'003)).has_value());
    ASSERT_TRUE(file.sync().has_value());
    EXPECT_EQ(file.bytes(), size);
    EXPECT_EQ(text_of(folder.path() / "out"), text);
    ASSERT_TRUE(file.write("more").has_value());
    ASSERT_TRUE(file.sync().has_value());
    EXPECT_EQ(text_of(folder.path() / "out"), text + "more");
  }
}

TEST(OutputFile, SaysWhatToDoWhenTheDriveIsFull) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  auto file = OutputFile::create("/dev/full").value();
  const Status status = file.write("x");
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kIo);
  EXPECT_THAT(status.error().message, HasSubstr("/dev/full"));
  EXPECT_THAT(status.error().message, HasSubstr("make room and run the same command again"));
}

TEST(OutputFile, NamesAPathThatCannotBeCreated) {
  const TemporaryFolder folder;
  const auto file = OutputFile::create(folder.path() / "none" / "out");
  ASSERT_FALSE(file.has_value());
  EXPECT_THAT(file.error().message, HasSubstr("none/out"));
  EXPECT_FALSE(sync_directory(folder.path() / "none").has_value());
}

TEST(OutputFile, IsLockedForOthersUntilItGoes) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "lock";
  {
    const auto first = OutputFile::append_locked(path);
    ASSERT_TRUE(first.has_value());
    const auto second = OutputFile::append_locked(path);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().kind, ErrorKind::kUsage);
  }
  EXPECT_TRUE(OutputFile::append_locked(path).has_value());
}

}  // namespace
}  // namespace odmoe
