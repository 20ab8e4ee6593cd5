#include "io/direct_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <bit>
#include <utility>
#include <vector>

#include "io/testing.h"

namespace odmoe {
namespace {

TEST(DirectFile, BufferedFilesAskForNoAlignment) {
  const TemporaryFolder folder;
  const auto file = DirectFile::open(folder.write("a", pattern(5000)), false);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->bytes(), 5000U);
  EXPECT_FALSE(file->direct());
  EXPECT_EQ(file->alignment().offset_bytes, 1U);
  EXPECT_EQ(file->alignment().memory_bytes, 1U);
}

TEST(DirectFile, DirectFilesAskForPowersOfTwoAndFallBackToBuffered) {
  const TemporaryFolder folder;
  const auto file = DirectFile::open(folder.write("a", pattern(5000)), true);
  ASSERT_TRUE(file.has_value());
  EXPECT_TRUE(std::has_single_bit(file->alignment().offset_bytes));
  EXPECT_TRUE(std::has_single_bit(file->alignment().memory_bytes));
  if (!file->direct()) {
    EXPECT_EQ(file->alignment().offset_bytes, 1U);
  }
}

TEST(DirectFile, AMissingFileIsNotFound) {
  const TemporaryFolder folder;
  const auto file = DirectFile::open(folder.path() / "none", true);
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(file.error().message.find("none"), std::string::npos);
}

TEST(DirectFile, WhatIsNoRegularFileIsRefusedByName) {
  const TemporaryFolder folder;
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const auto& path : {folder.path(), pipe}) {
    const auto file = DirectFile::open(path, true);
    ASSERT_FALSE(file.has_value());
    EXPECT_EQ(file.error().kind, ErrorKind::kIo);
    EXPECT_NE(file.error().message.find(path.string()), std::string::npos);
  }
}

TEST(DirectFile, AsManyFilesAreOpenAsTheSystemEverAllows) {
  struct rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  if (before.rlim_max < 200) GTEST_SKIP() << "the system allows few open files";
  struct rlimit few = before;
  few.rlim_cur = 64;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const TemporaryFolder folder;
  const auto path = folder.write("a", pattern(10));
  std::vector<DirectFile> files;
  for (int i = 0; i < 150; ++i) {
    auto file = DirectFile::open(path, false);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    files.push_back(std::move(*file));
  }
  files.clear();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace odmoe
