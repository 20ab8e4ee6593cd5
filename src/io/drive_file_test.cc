#include "io/drive_file.h"

#include <gtest/gtest.h>

#include <string>

#include "io/testing.h"

namespace odmoe {
namespace {

constexpr DriveProfile kProfile{
    .depth = 16, .read_bytes = 1 << 19, .bytes_per_second = 2.5e9, .latency_us = 300};

class DriveFile : public ::testing::Test {
 protected:
  void write(const std::string& text) const { folder_.write("drives.json", std::as_bytes(std::span(text))); }
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_.path() / "drives.json";
};

TEST_F(DriveFile, WhatWasKeptIsFoundAgainAndMissingFoldersAreMade) {
  const auto file = folder_.path() / "cache" / "odmoe" / "drives.json";
  ASSERT_TRUE(save_profile(file, "a", kProfile).has_value());
  EXPECT_EQ(load_profile(file, "a"), kProfile);
  EXPECT_EQ(load_profile(file, "b"), std::nullopt);
  EXPECT_EQ(load_profile(folder_.path() / "none.json", "a"), std::nullopt);
}

TEST_F(DriveFile, OtherDrivesAreKeptAndOneIsReplaced) {
  DriveProfile other = kProfile;
  other.depth = 2;
  ASSERT_TRUE(save_profile(file_, "a", kProfile).has_value());
  ASSERT_TRUE(save_profile(file_, "b\xff\"\n", kProfile).has_value());
  ASSERT_TRUE(save_profile(file_, "c", kProfile).has_value());
  ASSERT_TRUE(save_profile(file_, "c", other).has_value());
  EXPECT_EQ(load_profile(file_, "a"), kProfile);
  EXPECT_EQ(load_profile(file_, "c"), other);
}

TEST_F(DriveFile, ADamagedOrForeignFileIsAsGoodAsNoneAndIsReplaced) {
  for (const std::string text :
       {"", "{", "[]", "null", "{\"version\": 2, \"drives\": {\"a\": {}}}", "{\"version\": 1}",
        "{\"version\": 1, \"drives\": 3}", "{\"version\": 1, \"drives\": {\"a\": 7}}", "\x01\x02\xff\xfe",
        "{\"version\": \"1\", \"drives\": {}}"}) {
    write(text);
    EXPECT_EQ(load_profile(file_, "a"), std::nullopt) << text;
    ASSERT_TRUE(save_profile(file_, "a", kProfile).has_value()) << text;
    EXPECT_EQ(load_profile(file_, "a"), kProfile) << text;
  }
}

TEST_F(DriveFile, NumbersThatMakeNoSenseAreNotBelieved) {
  const auto with = [this](const std::string& depth, const std::string& bytes, const std::string& rate) {
    write("{\"version\": 1, \"drives\": {\"a\": {\"depth\": " + depth + ", \"read_bytes\": " + bytes +
          ", \"bytes_per_second\": " + rate + ", \"latency_us\": 10}}}");
    return load_profile(file_, "a").has_value();
  };
  EXPECT_TRUE(with("4", "65536", "1e9"));
  EXPECT_FALSE(with("0", "65536", "1e9"));
  EXPECT_FALSE(with("-1", "65536", "1e9"));
  EXPECT_FALSE(with("4", "1e300", "1e9"));
  EXPECT_FALSE(with("4", "65536", "0"));
  EXPECT_FALSE(with("4", "65536", "\"fast\""));
  EXPECT_FALSE(with("null", "65536", "1e9"));
}

TEST_F(DriveFile, WhatCannotBeWrittenIsAnErrorThatNamesTheFile) {
  write("{}");
  const Status status = save_profile(file_ / "below" / "drives.json", "a", kProfile);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kIo);
  EXPECT_NE(status.error().message.find("below/drives.json"), std::string::npos) << status.error().message;
}

TEST_F(DriveFile, AFolderInItsPlaceIsNoFile) {
  std::filesystem::create_directories(file_ / "x");
  EXPECT_EQ(load_profile(file_, "a"), std::nullopt);
  EXPECT_FALSE(save_profile(file_, "a", kProfile).has_value());
}

TEST(DriveKey, TellsDrivesAndReadersApart) {
  EXPECT_EQ(drive_key("a", "io_uring"), drive_key("a", "io_uring"));
  EXPECT_NE(drive_key("a", "io_uring"), drive_key("a", "pread"));
  EXPECT_NE(drive_key("a", "io_uring"), drive_key("b", "io_uring"));
}

}  // namespace
}  // namespace odmoe
