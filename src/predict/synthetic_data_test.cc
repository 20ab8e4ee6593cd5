#include "predict/synthetic_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

SyntheticOptions small() {
  return {
      .n_embd = 16, .n_layer = 3, .n_expert = 8, .n_expert_used = 2, .n_token = 500, .document_tokens = 50};
}

std::string bytes_in(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(SyntheticData, CanBeForeseenWhollyWithoutNoiseAndHardlyWithNothingElse) {
  const testing::TempDir dir;
  SyntheticOptions options = small();
  options.noise = 0;
  const auto certain = make_synthetic_data(dir / "certain", options, "test");
  ASSERT_TRUE(certain.has_value()) << certain.error().message;
  ASSERT_EQ(certain->best_recall.size(), 2U);
  // Rounding alone can swap two experts whose logits are next to equal.
  EXPECT_GT(certain->best_recall[0], 0.995);
  EXPECT_GT(certain->best_recall[1], 0.995);
  options.noise = 1;
  const auto noise = make_synthetic_data(dir / "noise", options, "test");
  ASSERT_TRUE(noise.has_value());
  EXPECT_NEAR(noise->best_recall[0], 0.25, 0.06);  // chance: two of eight
}

TEST(SyntheticData, IsTheSameForTheSameSeed) {
  const testing::TempDir dir;
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(make_synthetic_data(dir / name, small(), "test").has_value());
  }
  for (const char* file : {"collection.json", "routers.safetensors", "shard-00000.safetensors.gz"}) {
    EXPECT_EQ(bytes_in(dir / "a" / file), bytes_in(dir / "b" / file)) << file;
    EXPECT_FALSE(bytes_in(dir / "a" / file).empty());
  }
}

TEST(SyntheticData, IsReadLikeCollectedData) {
  const testing::TempDir dir;
  const auto made = make_synthetic_data(dir.path(), small(), "test");
  ASSERT_TRUE(made.has_value());
  const auto collection = read_collection(dir.path());
  ASSERT_TRUE(collection.has_value()) << collection.error().message;
  EXPECT_TRUE(collection->complete);
  EXPECT_EQ(collection->n_token, 500);
  EXPECT_EQ(collection->n_document, 10);
  EXPECT_TRUE(read_routers(dir.path(), *collection).has_value());
  const auto shard = read_shard(dir.path(), *collection, 0);
  ASSERT_TRUE(shard.has_value()) << shard.error().message;
  EXPECT_EQ(shard->router_input.size(), 500U * 3 * 16);
}

TEST(SyntheticData, DoesNotOverwriteOtherData) {
  const testing::TempDir dir;
  ASSERT_TRUE(make_synthetic_data(dir.path(), small(), "test").has_value());
  SyntheticOptions other = small();
  other.seed = 1;
  const auto result = make_synthetic_data(dir.path(), other, "test");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(result.error().message, HasSubstr("holds other data"));
}

TEST(SyntheticData, NamesTheOptionThatMakesNoSense) {
  SyntheticOptions options = small();
  options.n_expert_used = 9;
  const auto result = make_synthetic_data("/nowhere", options, "test");
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("--top-k is 9; from 1 to 8"));
}

}  // namespace
}  // namespace odmoe
