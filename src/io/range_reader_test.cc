#include "io/range_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "io/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

class RangeReaderTest : public ::testing::Test {
 protected:
  RangeReaderTest() : data_(pattern(100'000, 1)), path_(folder_.write("data", data_)) {}

  TemporaryFolder folder_;
  std::vector<std::byte> data_;
  std::filesystem::path path_;
  RangeReader reader_;
};

TEST_F(RangeReaderTest, ReadsAnyPieceWhateverTheDrivesBlocks) {
  for (const auto& [offset, bytes] : std::initializer_list<std::pair<size_t, size_t>>{
           {0, 1}, {0, 100'000}, {1, 4096}, {4096, 4096}, {99'999, 1}, {5000, 60'000}, {7, 0}}) {
    std::vector<std::byte> out(bytes);
    const Status status = reader_.read(path_, offset, out);
    ASSERT_TRUE(status.has_value()) << status.error().message;
    EXPECT_TRUE(std::ranges::equal(out, std::span(data_).subspan(offset, bytes))) << offset;
  }
}

TEST_F(RangeReaderTest, SaysWhereAFileEndsTooSoon) {
  std::vector<std::byte> out(100);
  for (const uint64_t offset : {99'950, 100'000, 1'000'000}) {
    const Status status = reader_.read(path_, offset, out);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(status.error().message, HasSubstr(path_.string()));
  }
}

TEST_F(RangeReaderTest, NamesAFileThatIsNotThere) {
  std::vector<std::byte> out(1);
  EXPECT_EQ(reader_.read(folder_.path() / "none", 0, out).error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace odmoe
