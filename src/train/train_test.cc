#include "train/train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "format/safetensors.h"
#include "predict/synthetic_data.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

SyntheticOptions tiny_data() {
  return {.n_embd = 16,
          .n_layer = 4,
          .n_expert = 16,
          .n_expert_used = 2,
          .n_token = 6000,
          .document_tokens = 50,
          .noise = 0.2};
}

TrainOptions tiny_training(const testing::TempDir& dir) {
  TrainOptions options;
  options.data = dir / "data";
  options.output = dir / "shadow.safetensors";
  options.inputs = {ShadowInput::kRouter};
  options.lookahead = 2;
  options.hidden = 24;
  options.epochs = 3;
  options.batch = 64;
  options.threads = 1;
  return options;
}

// The stale gate knows nothing of the synthetic data's rotations: what is reached has been learnt.
TEST(Train, ReachesWhatIsPossibleOnDataOfKnownStructure) {
  const testing::TempDir dir;
  const auto made = make_synthetic_data(dir / "data", tiny_data(), "test");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  for (const bool hidden : {false, true}) {
    TrainOptions options = tiny_training(dir);
    options.hidden = hidden ? 64 : 0;
    options.direct = !hidden;
    options.epochs = hidden ? 25 : 12;
    options.learning_rate = 4e-3;
    const auto result = train(options);
    ASSERT_TRUE(result.has_value()) << result.error().message;
    ASSERT_EQ(result->spec.recall.size(), 2U);
    // Both are measured on samples, and the hidden units must also learn to be linear.
    const double slack = hidden ? 0.06 : 0.03;
    for (size_t d = 0; d < 2; ++d) {
      EXPECT_GT(result->spec.recall[d], made->best_recall[d] - slack) << d;
      EXPECT_LT(result->spec.recall[d], made->best_recall[d] + 0.03) << d;
    }
  }
}

class TrainResume : public ::testing::TestWithParam<bool> {};

TEST_P(TrainResume, EqualsATrainingThatWasNeverStopped) {
  const testing::TempDir dir;
  ASSERT_TRUE(make_synthetic_data(dir / "data", tiny_data(), "test").has_value());
  TrainOptions options = tiny_training(dir);
  options.shared_trunk = GetParam();
  options.dropout = 0.1;
  const auto whole = train(options);
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  const std::string expected = text_of(options.output), picture = text_of(dir / "shadow.svg");
  ASSERT_FALSE(expected.empty());
  std::filesystem::remove(options.output);

  // Stopped again and again, each time a little later.
  int interruptions = 0;
  for (int patience = 40;; patience += 150) {
    ASSERT_LT(interruptions, 100);
    int calls = 0;
    const auto result = train(options, [&](const TrainProgress&) { return ++calls < patience; });
    if (result.has_value()) break;
    ASSERT_EQ(result.error().kind, ErrorKind::kInterrupted) << result.error().message;
    ++interruptions;
  }
  EXPECT_GT(interruptions, 3);
  EXPECT_TRUE(text_of(options.output) == expected);
  EXPECT_EQ(text_of(dir / "shadow.svg"), picture);
  EXPECT_FALSE(std::filesystem::exists(dir / "shadow.safetensors.checkpoint"));
}

INSTANTIATE_TEST_SUITE_P(AloneAndShared, TrainResume, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Shared" : "Alone"; });

TEST(Train, WritesAFileThatTheFormatAccepts) {
  const testing::TempDir dir;
  ASSERT_TRUE(make_synthetic_data(dir / "data", tiny_data(), "test").has_value());
  for (const int variant : {0, 1, 2}) {
    TrainOptions options = tiny_training(dir);
    options.epochs = 1;
    options.inputs = {ShadowInput::kAttention, ShadowInput::kExperts};
    options.shared_trunk = variant == 1;
    options.direct_rank = variant == 0 ? 0 : 5;
    options.half = variant == 2;
    if (variant == 2) options.inputs.push_back(ShadowInput::kPrevious);
    const auto result = train(options);
    ASSERT_TRUE(result.has_value()) << result.error().message;
    const auto file = SafetensorsFile::open(options.output);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const auto spec = read_shadow_spec(*file);
    ASSERT_TRUE(spec.has_value()) << spec.error().message;
    EXPECT_EQ(spec->inputs, options.inputs);
    EXPECT_EQ(spec->recall, result->spec.recall);
    EXPECT_EQ(file->tensors().front().dtype, options.half ? "F16" : "F32");
  }
}

TEST(Train, SaysWhatIsMissing) {
  const testing::TempDir dir;
  TrainOptions options = tiny_training(dir);
  const auto refused = [&](ErrorKind kind, const std::string& what) {
    const auto result = train(options);
    ASSERT_FALSE(result.has_value()) << what;
    EXPECT_EQ(result.error().kind, kind) << result.error().message;
    EXPECT_THAT(result.error().message, HasSubstr(what));
  };
  refused(ErrorKind::kNotFound, "holds no collected data");
  SyntheticOptions few = tiny_data();
  few.n_token = 60;
  ASSERT_TRUE(make_synthetic_data(dir / "few", few, "test").has_value());
  options.data = dir / "few";
  refused(ErrorKind::kUsage, "too few to set one of ten aside");
  ASSERT_TRUE(make_synthetic_data(dir / "data", tiny_data(), "test").has_value());
  options.data = dir / "data";
  int calls = 0;
  EXPECT_FALSE(train(options, [&](const TrainProgress&) { return ++calls < 200; }).has_value());
  options.hidden = 25;
  refused(ErrorKind::kUsage, "holds a training with other options or data");
  options.hidden = 24;
  std::filesystem::resize_file(dir / "data" / "shard-00001.safetensors.gz", 100);
  refused(ErrorKind::kBadFile, "shard-00001.safetensors.gz");
}

}  // namespace
}  // namespace odmoe
