#include "format/mirror.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "format/gguf_file.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;
using testing::small_model;
using testing::TempDir;

class Mirror : public ::testing::Test {
 protected:
  Mirror() {
    std::filesystem::create_directories(copy_);
    paths_ = small_model({}).write_split(dir_.path(), "m", 3);
    for (const auto& path : paths_) std::filesystem::copy_file(path, copy_ / path.filename());
    model_ = GgufFile::open(paths_[0]).value();
  }
  std::string error(const std::filesystem::path& path) const {
    const auto files = open_mirror(*model_, path);
    return files.has_value() ? "no error" : files.error().message;
  }
  // Changes one byte of a file of the copy.
  void damage(size_t part, uint64_t offset) const {
    std::fstream file(copy_ / paths_[part].filename(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 1));
  }
  TempDir dir_;
  std::filesystem::path copy_ = dir_ / "copy";
  std::vector<std::filesystem::path> paths_;
  std::unique_ptr<GgufFile> model_;
};

TEST_F(Mirror, IsNamedByItsFirstFileOrItsFolder) {
  for (const auto& path : {copy_, copy_ / paths_[0].filename()}) {
    const auto files = open_mirror(*model_, path);
    ASSERT_TRUE(files.has_value()) << files.error().message;
    ASSERT_EQ(files->size(), 3U);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ((*files)[i], copy_ / paths_[i].filename());
  }
}

TEST_F(Mirror, OfAnotherSizeIsRefused) {
  const auto last = copy_ / paths_[2].filename();
  std::ofstream(last, std::ios::app | std::ios::binary) << "more";
  EXPECT_THAT(error(copy_), HasSubstr(last.string() + " is not a mirror of " + paths_[2].string()));
}

TEST_F(Mirror, WithOtherMetadataIsRefusedNamingTheByte) {
  // A letter of a text, so that the file is still sound.
  std::ifstream in(paths_[0], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const size_t at = bytes.find("small", bytes.find("general.name"));
  ASSERT_NE(at, std::string::npos);
  damage(0, at);
  EXPECT_THAT(error(copy_), HasSubstr("differ at byte " + std::to_string(at)));
}

TEST_F(Mirror, WithOtherWeightsIsRefused) {
  const uint64_t last = std::filesystem::file_size(paths_[1]) - 1;
  damage(1, last);
  EXPECT_THAT(error(copy_), HasSubstr("differ at byte " + std::to_string(last)));
}

TEST_F(Mirror, ThatIsTheModelItselfIsRefused) {
  EXPECT_THAT(error(dir_.path()), HasSubstr("is the model itself"));
}

TEST_F(Mirror, SplitInAnotherWayOrMissingIsRefused) {
  small_model({}).write(dir_ / "whole.gguf");
  EXPECT_THAT(error(dir_ / "whole.gguf"), HasSubstr("split into 1 files and not 3"));
  std::filesystem::remove(copy_ / paths_[1].filename());
  EXPECT_NE(error(copy_), "no error");
  EXPECT_THAT(error(dir_ / "nothing"), HasSubstr("nothing"));
}

}  // namespace
}  // namespace odmoe
