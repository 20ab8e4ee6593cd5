#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "format/gguf_file.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::AllOf;
using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::small_model;
using testing::TempDir;

constexpr int kShards = 3;

class GgufSplit : public ::testing::Test {
 protected:
  std::filesystem::path shard(int i) const { return GgufWriter::split_path(dir_.path(), "m", i, kShards); }
  std::vector<std::filesystem::path> write(const std::vector<GgufWriter>& shards) const {
    std::vector<std::filesystem::path> paths;
    for (size_t i = 0; i < shards.size(); ++i) {
      paths.push_back(shard(static_cast<int>(i)));
      shards[i].write(paths.back());
    }
    return paths;
  }
  std::string error(const std::filesystem::path& path, ErrorKind kind = ErrorKind::kBadFile) const {
    const auto file = GgufFile::open(path);
    if (file.has_value()) return "no error";
    EXPECT_EQ(file.error().kind, kind);
    return file.error().message;
  }
  TempDir dir_;
};

TEST_F(GgufSplit, TheFirstShardOpensAll) {
  const auto paths = small_model({}).write_split(dir_.path(), "m", kShards);
  const auto file = GgufFile::open(paths[0]);
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ((*file)->files(), paths);
  uint64_t bytes = 0;
  for (const auto& path : paths) bytes += std::filesystem::file_size(path);
  EXPECT_EQ((*file)->total_bytes(), bytes);
  EXPECT_EQ((*file)->get_string("general.name").value(), "small");

  small_model({}).write(dir_ / "whole.gguf");
  const auto whole = GgufFile::open(dir_ / "whole.gguf");
  ASSERT_TRUE(whole.has_value());
  ASSERT_EQ((*file)->tensors().size(), (*whole)->tensors().size());
  const auto bytes_of = [](const GgufFile& in, const TensorInfo& tensor) {
    std::string data(tensor.bytes, '\0');
    std::ifstream stream(in.files()[static_cast<size_t>(tensor.file)], std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(tensor.offset));
    stream.read(data.data(), static_cast<std::streamsize>(data.size()));
    return data;
  };
  for (const TensorInfo& tensor : (*whole)->tensors()) {
    const TensorInfo* split = (*file)->find_tensor(tensor.name);
    ASSERT_NE(split, nullptr) << tensor.name;
    EXPECT_EQ(bytes_of(**file, *split), bytes_of(**whole, tensor)) << tensor.name;
  }
}

TEST_F(GgufSplit, ASplitIntoOneShardNeedsNoParticularName) {
  small_model({}).split(1)[0].write(dir_ / "any.gguf");
  EXPECT_TRUE(GgufFile::open(dir_ / "any.gguf").has_value());
}

TEST_F(GgufSplit, AnotherShardThanTheFirstSaysWhichToGive) {
  write(small_model({}).split(kShards));
  EXPECT_THAT(error(shard(1)), AllOf(HasSubstr(shard(1).string()), HasSubstr("shard 2 of the 3"),
                                     HasSubstr("ends in -00001-of-00003.gguf")));
}

TEST_F(GgufSplit, AMissingShardIsNamed) {
  write(small_model({}).split(kShards));
  std::filesystem::remove(shard(2));
  EXPECT_THAT(error(shard(0)),
              AllOf(HasSubstr(shard(2).string()), HasSubstr("is missing: shard 3 of the 3")));
}

TEST_F(GgufSplit, ARenamedFirstShardSaysWhatItsNameMustBe) {
  write(small_model({}).split(kShards));
  std::filesystem::rename(shard(0), dir_ / "renamed.gguf");
  EXPECT_THAT(error(dir_ / "renamed.gguf"), HasSubstr("does not end in -00001-of-00003.gguf"));
}

TEST_F(GgufSplit, ADamagedShardIsNamed) {
  write(small_model({}).split(kShards));
  std::filesystem::resize_file(shard(1), std::filesystem::file_size(shard(1)) - 1);
  EXPECT_THAT(error(shard(0)), AllOf(HasSubstr(shard(1).string()), HasSubstr("is cut short")));
  dir_.write(shard(1).filename().string(), "<html>");
  EXPECT_THAT(error(shard(0)), AllOf(HasSubstr(shard(1).string()), HasSubstr("web page")));
}

TEST_F(GgufSplit, ShardsThatChangedPlacesAreRefused) {
  auto shards = small_model({}).split(kShards);
  std::swap(shards[1], shards[2]);
  write(shards);
  EXPECT_THAT(error(shard(0)),
              AllOf(HasSubstr(shard(1).string()), HasSubstr("says that it is shard 3 of 3, not 2 of 3")));
}

TEST_F(GgufSplit, AShardOfASplitOfAnotherSizeIsRefused) {
  auto shards = small_model({}).split(kShards);
  shards[1].remove("split.count").set("split.count", uint16_t{4});
  write(shards);
  EXPECT_THAT(error(shard(0)), HasSubstr("says that it is shard 2 of 4"));
}

TEST_F(GgufSplit, AShardThatIsNoShardIsRefused) {
  auto shards = small_model({}).split(kShards);
  shards[1].remove("split.count");
  write(shards);
  EXPECT_THAT(error(shard(0)), AllOf(HasSubstr(shard(1).string()), HasSubstr("has no key 'split.count'")));
}

TEST_F(GgufSplit, AShardOfAnotherModelIsRefused) {
  auto shards = small_model({}).split(kShards);
  shards[2].set("general.name", "other");
  write(shards);
  EXPECT_THAT(error(shard(0)),
              AllOf(HasSubstr(shard(2).string()), HasSubstr("general.name is 'other', not 'small'")));

  shards = small_model({}).split(kShards);
  shards[2] = small_model({.n_layer = 4}).split(kShards)[2];
  write(shards);
  EXPECT_THAT(error(shard(0)), AllOf(HasSubstr(shard(2).string()),
                                     HasSubstr("a shard of another model (of 21 tensors, not 16")));
}

TEST_F(GgufSplit, ShardsThatLackTensorsTogetherAreRefused) {
  auto shards = small_model({}).split(kShards);
  for (GgufWriter& each : shards) each.remove("split.tensors.count").set("split.tensors.count", int32_t{99});
  write(shards);
  EXPECT_THAT(error(shard(0)), HasSubstr("'split.tensors.count' promises 99"));
}

TEST_F(GgufSplit, ATensorInTwoShardsIsRefused) {
  auto shards = small_model({}).split(kShards);
  for (GgufWriter& each : shards) each.remove("split.tensors.count");
  shards[2].add_tensor("token_embd.weight", GGML_TYPE_F32, {4});
  write(shards);
  EXPECT_THAT(error(shard(0)), AllOf(HasSubstr(shard(0).string()), HasSubstr(shard(2).string()),
                                     HasSubstr("both have tensor 'token_embd.weight'")));
}

TEST_F(GgufSplit, CountsOutOfRangeAreRefused) {
  GgufWriter().set("split.no", uint16_t{0}).set("split.count", uint16_t{0}).write(dir_ / "a.gguf");
  EXPECT_THAT(error(dir_ / "a.gguf"), HasSubstr("'split.count' is 0"));
  GgufWriter()
      .set("split.no", uint16_t{0})
      .set("split.count", uint16_t{GgufFile::kMaxShards + 1})
      .write(dir_ / "b.gguf");
  EXPECT_THAT(error(dir_ / "b.gguf"), HasSubstr("'split.count' is 4097, not 1 to 4096"));
  GgufWriter().set("split.no", int16_t{-1}).set("split.count", uint16_t{2}).write(dir_ / "c.gguf");
  EXPECT_THAT(error(dir_ / "c.gguf"), HasSubstr("'split.no' is -1, not 0 to 1"));
}

}  // namespace
}  // namespace odmoe
