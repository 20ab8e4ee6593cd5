#include "base/whole_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace odmoe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class WholeFile : public ::testing::Test {
 protected:
  WholeFile() {
    std::string name = (fs::temp_directory_path() / "odmoe-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~WholeFile() override { fs::remove_all(folder_); }

  fs::path write(const char* name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  static void expect_error(const fs::path& path, ErrorKind kind, const char* what) {
    const auto text = read_whole_text(path, 10);
    ASSERT_FALSE(text.has_value());
    EXPECT_EQ(text.error().kind, kind);
    EXPECT_THAT(text.error().message, HasSubstr(what));
    EXPECT_THAT(text.error().message, HasSubstr(path.string()));
  }

  fs::path folder_;
};

TEST_F(WholeFile, IsReadAsItIs) {
  const std::string text("a\0b\xFF\n", 5);
  EXPECT_EQ(read_whole_text(write("some", text), 5).value(), text);
  EXPECT_EQ(read_whole(folder_ / "some", 5).value().size(), 5U);
  EXPECT_EQ(read_whole(folder_ / "some", 5).value()[3], std::byte{0xFF});
  EXPECT_EQ(read_whole_text(write("none", ""), 0).value(), "");
}

TEST_F(WholeFile, IsNotReadBeyondTheLimit) {
  expect_error(write("long", "12345678901"), ErrorKind::kBadFile, "11 bytes; 10 are the most");
}

TEST_F(WholeFile, SaysWhatStandsInItsPlace) {
  expect_error(folder_ / "none", ErrorKind::kNotFound, "no such file");
  expect_error(write("file", "x") / "below", ErrorKind::kNotFound, "no such file");
  expect_error(folder_, ErrorKind::kBadFile, "is not a regular file");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_error(folder_ / "pipe", ErrorKind::kBadFile,
               "is not a regular file");  // and nobody waits for a writer
}

TEST_F(WholeFile, IsReplacedInOneStep) {
  const fs::path path = write("note", "old");
  const std::string fresh = "new";
  ASSERT_TRUE(replace_whole(path, std::as_bytes(std::span(fresh))).has_value());
  EXPECT_EQ(read_whole_text(path, 10).value(), "new");
  EXPECT_FALSE(fs::exists(path.string() + ".tmp"));
  EXPECT_FALSE(replace_whole(folder_ / "nowhere" / "note", std::as_bytes(std::span(fresh))).has_value());
}

}  // namespace
}  // namespace odmoe
