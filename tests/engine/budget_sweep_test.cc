// Invariant 1: logits are bit-identical whatever the budget, reader or residency.
#include <gtest/gtest.h>

#include <cstring>

#include "expert_types.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::budget_sweep_test {
namespace {

using namespace odmoe::testing;

constexpr std::string_view kText =
    "In the beginning was the word, and the word was with the people of the United States; and it came to "
    "pass "
    "that the king said unto his servants, What is the matter? Romeo, thou art a villain, and shalt not "
    "speak "
    "of the nation: for 1776 reasons we hold these truths. Hear me!";

std::filesystem::path model_path(const std::string& name) {
  if (name == "bundled") return bundled_model();
  return shared_file("models/" + name + ".gguf");
}

class BudgetSweep : public ::testing::TestWithParam<const char*> {};

// Every position of a chunk, then decoding with what the chunk left in memory.
std::vector<float> run(const EngineOptions& options, uint64_t* misses = nullptr,
                       std::string_view text = kText) {
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  };
  auto session = engine->new_session().value();
  const std::vector<Token> tokens = engine->encode(text, true, true);
  EXPECT_TRUE(session->evaluate(tokens, collect).has_value());
  for (int i = 0; i < 8; ++i) {
    const auto next =
        static_cast<Token>(std::ranges::max_element(session->logits()) - session->logits().begin());
    EXPECT_TRUE(session->evaluate({&next, 1}, collect).has_value());
  }
  if (misses != nullptr) *misses = engine->stats().experts.misses;
  return logits;
}

TEST_P(BudgetSweep, LogitsAtEveryPositionAreBitIdentical) {
  const std::filesystem::path model = model_path(GetParam());
  if (model.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  EngineOptions options = reference_options(model);
  options.cache_type = CacheType::kF16;
  options.chunk = 32;
  options.reader = ReaderChoice::kPread;
  uint64_t resident_misses = 0;
  const std::vector<float> wanted = run(options, &resident_misses);
  ASSERT_FALSE(wanted.empty());
  for (const ReaderChoice reader : {ReaderChoice::kPread, ReaderChoice::kAuto}) {
    for (const double percent : {100.0, 50.0, 25.0, 10.0, 0.001}) {
      SCOPED_TRACE(::testing::Message()
                   << percent << " % of the experts, reader " << static_cast<int>(reader));
      options.reader = reader;
      options.memory.percent = percent;
      uint64_t misses = 0;
      const std::vector<float> got = run(options, &misses);
      ASSERT_EQ(got.size(), wanted.size());
      EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0);
      // The sweep is worth nothing if small budgets did not have to read experts again.
      if (percent < 50) {
        EXPECT_GT(misses, resident_misses);
      }
    }
  }
}

// A chunk's waves divide its experts by when they arrive, and never the rows of one: ggml chooses kernels by
// how many of them a call has.  Here that is 32 at most, and of some experts fewer than 8.
TEST(BudgetSweepTypes, PromptsHaveTheSameBitsAtEveryBudgetInEveryType) {
  const TempDir dir;
  for (const ggml_type type : expert_types()) {
    SCOPED_TRACE(ggml_type_name(type));
    const auto path = dir.path() / (std::string(ggml_type_name(type)) + ".gguf");
    runnable_model({.expert_type = type, .n_layer = 1, .n_expert = 6, .n_embd = 256, .n_ff_exp = 256})
        .write(path);
    EngineOptions options = reference_options(path);
    options.chunk = 32;
    const std::vector<float> wanted = run(options, nullptr, kText.substr(0, 80));
    ASSERT_FALSE(wanted.empty());
    for (const double percent : {60.0, 0.001}) {
      options.memory.percent = percent;
      const std::vector<float> got = run(options, nullptr, kText.substr(0, 80));
      ASSERT_EQ(got.size(), wanted.size());
      EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0) << percent << " %";
    }
  }
}

TEST_P(BudgetSweep, NeitherPolicyNorPredictorChangesABit) {
  const std::filesystem::path model = model_path(GetParam());
  if (model.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  EngineOptions options = reference_options(model);
  options.chunk = 32;
  const std::vector<float> wanted = run(options);
  for (const PolicyKind policy : {PolicyKind::kForecast, PolicyKind::kLru, PolicyKind::kLayerLru,
                                  PolicyKind::kLfu, PolicyKind::kLfuAging}) {
    for (const double percent : {50.0, 15.0}) {
      options.predictor = percent < 50 ? PredictorKind::kStaleGate : PredictorKind::kNone;
      options.lookahead = 2;
      SCOPED_TRACE(::testing::Message() << percent << " % of the experts, " << policy_name(policy) << ", "
                                        << predictor_name(options.predictor));
      options.policy = policy;
      options.memory.percent = percent;
      const std::vector<float> got = run(options);
      ASSERT_EQ(got.size(), wanted.size());
      EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, BudgetSweep,
                         ::testing::Values("bundled", "demo-kimi", "demo-qwen2moe", "arch/kimi-k2.F32",
                                           "arch/deepseek-v3.F32", "arch/deepseek-v2-lite.F32",
                                           "arch/qwen2moe.F32", "arch/qwen3moe.F32", "arch/qwen3moe.Q4_K_M"),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace odmoe::budget_sweep_test
