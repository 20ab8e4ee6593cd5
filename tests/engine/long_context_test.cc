// What a long context costs is known beforehand, and a KV cache in Q8_0 is as good as it is said to be.
#include <gtest/gtest.h>

#include <fstream>

#include "base/memory_info.h"
#include "base/units.h"
#include "kimi_k2.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::long_context_test {
namespace {

using namespace odmoe::testing;

class KimiK2Shapes : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.model = folder_.path() / "kimi-k2.gguf";
    kimi_k2_header().write(options_.model);
    options_.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 10};
    options_.context = 262144;
    options_.threads = 2;
  }
  MemoryPlan plan() {
    const auto plan = EngineImpl::memory_plan(options_);
    if (plan.has_value()) return *plan;
    ADD_FAILURE() << plan.error().message;
    return {};
  }

  TempDir folder_;
  EngineOptions options_;
};

TEST_F(KimiK2Shapes, TheKvCacheOf256KTokensIsOneCompressedRowPerLayer) {
  EXPECT_EQ(plan().kv_bytes, 61ULL * 262144 * (512 + 64) * 2);
  options_.cache_type = CacheType::kQ8_0;
  EXPECT_EQ(plan().kv_bytes, 61ULL * 262144 * (512 + 64) * 34 / 32);
  EXPECT_EQ(Engine::inspect(options_).value().kv_bytes_per_token, 61ULL * (512 + 64) * 34 / 32);
}

TEST_F(KimiK2Shapes, PlanningTakesAddressesAndHardlyAnyMemory) {
  const uint64_t before = resident_bytes();
  const MemoryPlan whole = plan();
  EXPECT_LT(resident_bytes(), before + 512 * kMiB) << "the vocabulary and the tensors' names are the most";
  EXPECT_GT(whole.expert_bytes, 300 * kGiB);
}

TEST_F(KimiK2Shapes, BuffersGrowWithTheContextByTheMaskAlone) {
  const MemoryPlan at_256k = plan();
  options_.context = 4096;
  const MemoryPlan at_4k = plan();
  const uint64_t mask = uint64_t{262144 - 4096} * 512 * 2;
  EXPECT_NEAR(static_cast<double>(at_256k.buffer_bytes - at_4k.buffer_bytes), static_cast<double>(mask),
              static_cast<double>(64 * kMiB));
  EXPECT_LT(at_256k.buffer_bytes, 2 * kGiB);
  RecordProperty("dense_mib", std::to_string(at_256k.dense_bytes / kMiB));
  RecordProperty("buffer_mib", std::to_string(at_256k.buffer_bytes / kMiB));
  RecordProperty("minimum_mib", std::to_string(at_256k.minimum_bytes / kMiB));
}

TEST_F(KimiK2Shapes, WithoutFlashAttentionTheScoresOfAChunkAreTheLargestBufferAndASmallerChunkHelps) {
  ODMOE_SKIP_UNDER_ASAN("its malloc refuses 32 GiB of addresses");
  options_.flash_attention = FlashAttention::kOff;
  const uint64_t scores = uint64_t{262144} * 64 * sizeof(float);  // of one token
  // 32 GiB: a machine that has fewer does not even give the addresses.
  const auto whole = EngineImpl::memory_plan(options_);
  if (whole.has_value()) {
    EXPECT_GT(whole->buffer_bytes, 512 * scores);
  } else {
    EXPECT_NE(whole.error().message.find("smaller --chunk"), std::string::npos) << whole.error().message;
  }
  options_.chunk = 16;
  EXPECT_LT(plan().buffer_bytes, 60 * scores);
  RecordProperty("chunk_16_buffer_mib", std::to_string(plan().buffer_bytes / kMiB));
}

TEST_F(KimiK2Shapes, ItsProductionBudgetHolds256KTokensAndATenthOfTheExperts) {
  options_.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = 80 * kGiB, .percent = 0};
  const MemoryPlan whole = plan();
  EXPECT_GE(static_cast<double>(whole.arena_bytes), 0.1 * static_cast<double>(whole.expert_bytes));
}

TEST_F(KimiK2Shapes, WhatCannotFitIsRefusedWithTheLeastThatWould) {
  options_.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = 8 * kGiB, .percent = 0};
  const auto refused = EngineImpl::memory_plan(options_);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBudget);
  EXPECT_NE(refused.error().message.find("smaller --context"), std::string::npos) << refused.error().message;
}

// Each position's logits with a KV cache in Q8_0 beside those in F16, of GQA and of MLA.
class CacheInQ8 : public ::testing::TestWithParam<const char*> {};

TEST_P(CacheInQ8, IsCloseToF16AtEveryPosition) {
  const std::string name = GetParam();
  const std::filesystem::path model =
      name == "bundled" ? bundled_model() : shared_file("models/" + name + ".gguf");
  if (model.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << name;
  for (const FlashAttention flash : {FlashAttention::kOff, FlashAttention::kOn}) {
    SCOPED_TRACE(flash == FlashAttention::kOn ? "flash attention" : "plain attention");
    EngineOptions options = reference_options(model);
    options.flash_attention = flash;
    std::array<std::vector<float>, 2> logits;
    size_t n_vocab = 0;
    for (const CacheType type : {CacheType::kF16, CacheType::kQ8_0}) {
      options.cache_type = type;
      const auto engine = open_or_fail(options);
      ASSERT_NE(engine, nullptr);
      n_vocab = static_cast<size_t>(engine->model().n_vocab);
      std::vector<Token> tokens = engine->encode(
          "In the beginning was the word, and the word was with the people of the United States; and it came "
          "to pass that the king said unto his servants, What is the matter? Romeo, thou art a villain.",
          true, true);
      logits[type == CacheType::kQ8_0 ? 1 : 0] = all_logits(*engine, tokens);
    }
    ASSERT_EQ(logits[0].size(), logits[1].size());
    double sum = 0;
    double worst = 0;
    const size_t n = logits[0].size() / n_vocab;
    for (size_t i = 0; i < n; ++i) {
      const double kl = kl_divergence(std::span(logits[1]).subspan(i * n_vocab, n_vocab),
                                      std::span(logits[0]).subspan(i * n_vocab, n_vocab));
      sum += kl;
      worst = std::max(worst, kl);
    }
    RecordProperty("mean_kl", std::to_string(sum / static_cast<double>(n)));
    RecordProperty("worst_kl", std::to_string(worst));
    EXPECT_GT(worst, 0.0) << "the cache's type has no effect";
    // Measured: 0.0003 and 0.003 with the trained model, 0.04 and 0.35 with those of random weights, where a
    // rounding error is enough for other experts.
    const bool trained = !name.starts_with("arch/");
    EXPECT_LT(sum / static_cast<double>(n), trained ? 1e-3 : 0.1);
    EXPECT_LT(worst, trained ? 1e-2 : 1.0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CacheInQ8,
                         ::testing::Values("bundled", "demo-qwen2moe", "arch/kimi-k2.F32",
                                           "arch/deepseek-v2-lite.F32"),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace odmoe::long_context_test
