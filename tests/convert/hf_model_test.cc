// Checkpoints of Hugging Face converted and run, against the float32 logits of transformers itself.
// The checkpoints in tests/data/hf are made by tests/tools/make_hf_models.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "convert/hf_source.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;
using ::testing::Contains;
using ::testing::HasSubstr;

// A path is itself; a name is that of a checkpoint of the repository.
std::filesystem::path checkpoint(const std::filesystem::path& name) {
  return std::filesystem::path(ODMOE_SOURCE_DIR) / "tests/data/hf" / name;
}

std::unique_ptr<HfSource> open_source(const std::string& name, const HfOptions& options) {
  auto source = HfSource::open(checkpoint(name), options);
  if (!source.has_value()) {
    ADD_FAILURE() << source.error().message;
    return nullptr;
  }
  return std::move(*source);
}

// A copy of a checkpoint in which one key of config.json is another.
void copy_with(const std::string& name, const std::filesystem::path& to, const std::string& key,
               const nlohmann::json& value) {
  std::filesystem::copy(checkpoint(name), to);
  auto config = nlohmann::json::parse(read_text(to / "config.json"));
  config[key] = value;
  std::ofstream(to / "config.json") << config;
}

// How far a conversion's logits are from those beside the checkpoint.
double distance(const std::string& name, const HfOptions& options) {
  const auto source = open_source(name, options);
  if (source == nullptr) return 1e9;
  const auto plan = plan_conversion(*source, {});
  const TempDir dir;
  const auto made = plan.has_value() ? convert(*source, *plan, dir / "model", {})
                                     : Result<ConvertResult>(std::unexpected(plan.error()));
  if (!made.has_value()) {
    ADD_FAILURE() << made.error().message;
    return 1e9;
  }
  EngineOptions engine_options = reference_options(dir / "model");
  engine_options.flash_attention = FlashAttention::kOff;
  const auto engine = open_or_fail(engine_options);
  if (engine == nullptr) return 1e9;
  std::ifstream file(checkpoint(name) / "reference.json");
  const std::vector<Token> tokens = nlohmann::json::parse(file).at("tokens");
  auto session = engine->new_session().value();
  EXPECT_TRUE(session->evaluate(tokens).has_value());
  return relative_l2(session->logits(), read_floats(checkpoint(name) / "logits.f32"));
}

class HfModel : public ::testing::TestWithParam<const char*> {};

TEST_P(HfModel, LogitsAreThoseOfTransformersInFloat32) {
  const double l2 = distance(GetParam(), {.experts = GGML_TYPE_F32, .dense = GGML_TYPE_F32});
  RecordProperty("l2", std::to_string(l2));
  EXPECT_LT(l2, 1e-4);
}

TEST_P(HfModel, TheDefaultTypesStayNear) {
  // Kernels round what they multiply with to 8 bits or bfloat16, so this says only that nothing is mixed up.
  const double l2 = distance(GetParam(), {});
  RecordProperty("l2", std::to_string(l2));
  EXPECT_LT(l2, 0.2);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, HfModel,
                         ::testing::Values("deepseek-v3", "deepseek-v3-halves", "deepseek-v3-fp8",
                                           "deepseek-v3-mlx", "deepseek-v2-lite", "kimi-k2.5-int4",
                                           "qwen2moe", "qwen3moe", "qwen3moe-mlx"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
                           return name;
                         });

std::vector<float> values_of(const HfSource& source, size_t tensor) {
  const auto& made = source.tensors()[tensor];
  std::vector<std::byte> bytes(made.bytes());
  const Status status = source.read(tensor, 0, bytes);
  EXPECT_TRUE(status.has_value()) << (status.has_value() ? "" : status.error().message);
  std::vector<float> values(static_cast<size_t>(made.ne[0] * made.ne[1] * made.ne[2]));
  if (made.type == GGML_TYPE_F32) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
  } else {
    ggml_get_type_traits(made.type)->to_float(bytes.data(), values.data(),
                                              static_cast<int64_t>(values.size()));
  }
  return values;
}

// Types on the checkpoint's own grid: each value is kept to the last bit.
TEST_P(HfModel, RepackedWeightsAreTheSameNumbers) {
  const auto as_they_are = open_source(GetParam(), {});
  const auto exact = open_source(GetParam(), {.experts = GGML_TYPE_F32, .dense = GGML_TYPE_F32});
  ASSERT_TRUE(as_they_are != nullptr && exact != nullptr);
  for (size_t i = 0; i < exact->tensors().size(); ++i) {
    const auto& tensor = as_they_are->tensors()[i];
    if (tensor.type == GGML_TYPE_Q8_0)
      continue;  // of FP8 and of six and eight bits: no grid of ggml's is theirs
    EXPECT_EQ(values_of(*as_they_are, i), values_of(*exact, i))
        << tensor.name << " " << ggml_type_name(tensor.type);
  }
}

// What a conversion asks for is rows anywhere in a tensor.
TEST_P(HfModel, AnyRowsAreThoseOfTheWhole) {
  const auto source = open_source(GetParam(), {});
  ASSERT_NE(source, nullptr);
  for (size_t i = 0; i < source->tensors().size(); ++i) {
    const auto& tensor = source->tensors()[i];
    std::vector<std::byte> whole(tensor.bytes());
    ASSERT_TRUE(source->read(i, 0, whole).has_value());
    const uint64_t row = ggml_row_size(tensor.type, tensor.ne[0]);
    const uint64_t slice = row * static_cast<uint64_t>(tensor.ne[1]);
    for (uint64_t begin = 0; begin < whole.size(); begin += slice) {
      const uint64_t from = begin + slice / row / 3 * row;
      std::vector<std::byte> piece(std::min(5 * row, begin + slice - from));
      ASSERT_TRUE(source->read(i, from, piece).has_value());
      ASSERT_TRUE(std::ranges::equal(piece, std::span(whole).subspan(from, piece.size()))) << tensor.name;
    }
  }
}

// The tests above would not notice rows of rope in the wrong order if the order made no difference.
TEST(HfModelRope, RowsInHalvesMeanSomethingElseThanAdjacentOnes) {
  const HfOptions exact{.experts = GGML_TYPE_F32, .dense = GGML_TYPE_F32};
  const TempDir dir;
  copy_with("deepseek-v3-halves", dir / "adjacent", "rope_interleave", true);
  EXPECT_GT(distance((dir / "adjacent").string(), exact), 1e-2);
}

// What HfSource says of a checkpoint in which keys of config.json are others.
Result<std::unique_ptr<HfSource>> open_with(const std::string& name, const nlohmann::json& changes) {
  const TempDir dir;
  std::filesystem::copy(checkpoint(name), dir / "model");
  auto config = nlohmann::json::parse(read_text(dir / "model" / "config.json"));
  config.update(changes);
  std::ofstream(dir / "model" / "config.json") << config;
  return HfSource::open(dir / "model", {});
}

TEST(HfModelLeftOver, LayersForSpeculationAreLeftOutWithTheReason) {
  const auto source = open_with("deepseek-v3", {{"num_hidden_layers", 2}, {"num_nextn_predict_layers", 1}});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_THAT((*source)->notes(), Contains(::testing::AllOf(HasSubstr("model.layers.2"), HasSubstr("MTP"))));
  for (const auto& tensor : (*source)->tensors())
    EXPECT_FALSE(tensor.name.starts_with("blk.2.")) << tensor.name;
}

TEST(HfModelLeftOver, ALayerThatTheConfigDoesNotCountIsAnError) {
  const auto source = open_with("deepseek-v3", {{"num_hidden_layers", 2}, {"num_nextn_predict_layers", 0}});
  ASSERT_FALSE(source.has_value());
  EXPECT_EQ(source.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(source.error().message, HasSubstr("model.layers.2."));
  EXPECT_THAT(source.error().message, HasSubstr("num_hidden_layers 2"));
}

TEST(HfModelLeftOver, ATensorThatNothingIsMadeOfIsAnErrorThatNamesIt) {
  const auto source = open_with("deepseek-v3", {{"n_shared_experts", 0}});
  ASSERT_FALSE(source.has_value());
  EXPECT_EQ(source.error().kind, ErrorKind::kUnsupported);
  EXPECT_THAT(source.error().message, HasSubstr("mlp.shared_experts."));
}

TEST(HfModelLeftOver, AHeadThatRepeatsTheEmbeddingIsLeftOutWithTheReason) {
  const auto source = open_with("qwen3moe", {{"tie_word_embeddings", true}});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_THAT((*source)->notes(),
              Contains(::testing::AllOf(HasSubstr("lm_head.weight"), HasSubstr("tie_word_embeddings"))));
}

TEST(HfModelTypes, TheTypesAskedForAreMadeWhereRowsAllowIt) {
  const auto source = open_source("qwen3moe", {.experts = GGML_TYPE_Q4_K, .dense = GGML_TYPE_Q8_0});
  ASSERT_NE(source, nullptr);
  for (const auto& tensor : source->tensors()) {
    if (tensor.name.contains("_exps")) {
      EXPECT_EQ(tensor.type, GGML_TYPE_Q5_0) << tensor.name;  // rows of 64 and 32
    } else if (tensor.name.contains("norm") || tensor.name.contains("gate_inp")) {
      EXPECT_EQ(tensor.type, GGML_TYPE_F32) << tensor.name;
    } else {
      EXPECT_EQ(tensor.type, GGML_TYPE_Q8_0) << tensor.name;
    }
  }
  EXPECT_THAT(source->notes(), Contains(HasSubstr("Q4_K becomes Q5_0 in 6 tensors")));
  EXPECT_EQ(source->recipe(), "experts Q4_K, dense Q8_0");
}

TEST(HfModelTypes, LowBitsStayUsable) {
  EXPECT_LT(distance("qwen3moe", {.experts = GGML_TYPE_Q4_0, .dense = GGML_TYPE_Q8_0}), 0.3);
  EXPECT_LT(distance("deepseek-v3", {.experts = GGML_TYPE_Q8_0, .dense = GGML_TYPE_Q8_0}), 0.1);
}

}  // namespace
}  // namespace odmoe
