// Every variant of file that the families come in, on tiny models made here: no reference data is needed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::variants_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

constexpr std::string_view kText = "the quick brown fox jumps over the lazy dog, 42 times";

std::vector<float> logits_of(const GgufWriter& writer, double percent = 100) {
  const TempDir dir;
  writer.write(dir / "model.gguf");
  EngineOptions options = reference_options(dir / "model.gguf");
  options.memory.percent = percent;
  options.chunk = 16;
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  return all_logits(*engine, engine->encode(kText, true, true));
}

void expect_same_bits(std::span<const float> got, std::span<const float> wanted) {
  ASSERT_FALSE(wanted.empty());
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0);
}

TEST(Variants, EachFamilyGivesTheSameBitsAtEveryBudget) {
  for (const char* architecture : {"deepseek2", "qwen2moe", "qwen3moe"}) {
    SCOPED_TRACE(architecture);
    const GgufWriter model = runnable_model({.architecture = architecture});
    const std::vector<float> wanted = logits_of(model);
    for (const float logit : wanted) ASSERT_TRUE(std::isfinite(logit));
    for (const double percent : {50.0, 25.0, 0.001}) expect_same_bits(logits_of(model, percent), wanted);
  }
}

TEST(Variants, AMergedGateUpTensorGivesTheSameBitsAsTwo) {
  for (const char* architecture : {"deepseek2", "qwen2moe", "qwen3moe"}) {
    const auto two = logits_of(runnable_model({.architecture = architecture}));
    const auto merged = logits_of(runnable_model({.architecture = architecture, .merge_gate_up = true}), 30);
    expect_same_bits(merged, two);
  }
}

TEST(Variants, AJointKvBTensorGivesTheSameBitsAsItsParts) {
  for (const bool q_lora : {true, false}) {
    const auto parts = logits_of(runnable_model({.architecture = "deepseek2", .q_lora = q_lora}));
    const auto joint =
        logits_of(runnable_model({.architecture = "deepseek2", .q_lora = q_lora, .joint_kv_b = true}));
    expect_same_bits(joint, parts);
  }
}

TEST(Variants, RoutingAndYarnChangeTheResult) {
  // That the switches of deepseek2 are not dead: reference_test says that they are right.
  const auto wanted = logits_of(runnable_model({.architecture = "deepseek2"}));
  for (const auto& model : {runnable_model({.architecture = "deepseek2", .sigmoid_groups = false}),
                            runnable_model({.architecture = "deepseek2", .yarn = false}),
                            runnable_model({.architecture = "deepseek2", .q_lora = false})}) {
    EXPECT_GT(relative_l2(logits_of(model), wanted), 1e-3);
  }
}

TEST(Variants, ASplitModelGivesTheSameBitsAsOneFile) {
  const GgufWriter model = runnable_model({.architecture = "qwen2moe"});
  const TempDir dir;
  const auto parts = model.write_split(dir.path(), "model", 3);
  EngineOptions options = reference_options(parts.front());
  options.memory.percent = 30;
  options.chunk = 16;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  expect_same_bits(all_logits(*engine, engine->encode(kText, true, true)), logits_of(model));
}

TEST(Variants, LayersOfDifferentRecordSizesShareTheArenaExactly) {
  const GgufWriter model =
      runnable_model({.expert_type = GGML_TYPE_Q4_0, .down_type = GGML_TYPE_Q8_0, .n_layer = 3});
  const auto wanted = logits_of(model);
  for (const double percent : {60.0, 30.0, 0.001}) expect_same_bits(logits_of(model, percent), wanted);
}

class WeightTypes : public ::testing::TestWithParam<ggml_type> {};

// The experts in a type, against the same values in F32: the types' kernels round the activations, so these
// agree as well as quantised arithmetic does.
TEST_P(WeightTypes, ExpertsOfThisTypeAreComputedAsTheyAre) {
  const ggml_type type = GetParam();
  RunnableModelOptions options{.expert_type = type, .n_expert = 4, .n_embd = 256, .n_ff_exp = 256};
  const auto quantised = logits_of(runnable_model(options), 50);
  options.expert_type = GGML_TYPE_F32;
  options.round_to = type;
  const auto plain = logits_of(runnable_model(options));
  ASSERT_EQ(quantised.size(), plain.size());
  EXPECT_LT(relative_l2(quantised, plain), 0.1);
  EXPECT_GT(
      relative_l2(quantised, logits_of(runnable_model({.n_expert = 4, .n_embd = 256, .n_ff_exp = 128}))),
      0.1);
}

std::vector<ggml_type> weight_types() {
  std::vector<ggml_type> types;
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    const auto* traits = ggml_get_type_traits(type);
    // What a file can hold as weights, and ggml's quantiser can make here.
    if (traits->blck_size > 0 && traits->to_float != nullptr && traits->from_float_ref != nullptr)
      types.push_back(type);
  }
  return types;
}

INSTANTIATE_TEST_SUITE_P(All, WeightTypes, ::testing::ValuesIn(weight_types()),
                         [](const auto& test) { return std::string(ggml_type_name(test.param)); });

TEST(Variants, AnUnknownArchitectureIsNamedWithThoseThatAreKnown) {
  const TempDir dir;
  GgufWriter model = runnable_model({});
  model.remove("general.architecture").set("general.architecture", "mamba9");
  model.write(dir / "model.gguf");
  const auto engine = EngineImpl::open(reference_options(dir / "model.gguf"), {});
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().kind, ErrorKind::kUnsupported);
  for (const char* word : {"model.gguf", "mamba9", "deepseek2", "qwen2moe", "qwen3moe"}) {
    EXPECT_THAT(engine.error().message, HasSubstr(word));
  }
}

TEST(Variants, AModelWithoutExpertsIsRefusedWithAReason) {
  const TempDir dir;
  GgufWriter model = runnable_model({});
  model.remove("qwen3moe.expert_count").set("qwen3moe.expert_count", uint32_t{0});
  model.write(dir / "model.gguf");
  const auto engine = EngineImpl::open(reference_options(dir / "model.gguf"), {});
  ASSERT_FALSE(engine.has_value());
  EXPECT_THAT(engine.error().message, HasSubstr("no routed experts"));
}

}  // namespace
}  // namespace odmoe::variants_test
