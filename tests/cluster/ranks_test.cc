// Any number of ranks gives the bits of one machine, at budgets at which each of them reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/cluster/ranks_in_threads.h"
#include "tests/engine/all_kinds.h"
#include "tests/engine/family_files.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

EngineOptions rank_options(const std::filesystem::path& model, double percent = 100) {
  EngineOptions options = reference_options(model);
  options.memory.percent = percent;
  options.cache_type = CacheType::kF16;
  options.chunk = 32;
  options.sessions = 2;
  return options;
}

std::vector<float> bits_of_one_machine(const EngineOptions& options) {
  const auto engine = open_or_fail(options);
  return engine != nullptr ? all_kinds(*engine) : std::vector<float>();
}

void expect_same_bits(const std::filesystem::path& model, std::initializer_list<int> ranks,
                      std::initializer_list<double> percents) {
  const std::vector<float> wanted = bits_of_one_machine(rank_options(model));
  ASSERT_FALSE(wanted.empty());
  for (const double percent : percents) {
    const EngineOptions options = rank_options(model, percent);
    for (const int n_rank : ranks) {
      SCOPED_TRACE(odmoe::format("{} ranks, {} % each", n_rank, percent));
      RanksInThreads threads(n_rank, options);
      const auto engine = threads.open(options);
      ASSERT_NE(engine, nullptr);
      const std::vector<float> got = all_kinds(*engine);
      ASSERT_EQ(got.size(), wanted.size());
      const auto n_same =
          std::ranges::mismatch(
              got, wanted,
              [](float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); })
              .in1 -
          got.begin();
      EXPECT_EQ(n_same, std::ssize(wanted))
          << "the first other bit is at evaluation " << n_same / engine->model().n_vocab;
      const Stats stats = engine->stats();
      ASSERT_EQ(std::ssize(stats.ranks), n_rank);
      for (const Stats::Rank& rank : stats.ranks) {
        SCOPED_TRACE(odmoe::format("rank {}", rank.rank));
        EXPECT_GT(rank.n_expert, 0);
        EXPECT_GT(rank.demands, 0);
        EXPECT_GT(rank.misses, 0);
        EXPECT_GT(rank.read_bytes, 0);
      }
    }
  }
}

class SharedModels : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedModels, HaveTheSameBitsOnOneToFourRanks) {
  ODMOE_SHARED_OR_SKIP(model, std::string("models/") + GetParam() + ".gguf");
  expect_same_bits(model, {1, 2, 3, 4}, {100, 25});
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedModels,
                         ::testing::Values("arch/kimi-k2.F32", "arch/deepseek-v3.F32",
                                           "arch/deepseek-v2-lite.F32", "arch/qwen2moe.F32",
                                           "arch/qwen3moe.F32", "arch/qwen3moe.Q4_K_M",
                                           "arch/qwen3moe.Q3_K_M", "arch/qwen3moe.Q2_K",
                                           "arch/qwen3moe.IQ4_XS", "demo-kimi", "demo-qwen2moe"),
                         [](const auto& test) { return test_name(test.param); });

class SharedFamilies : public ::testing::TestWithParam<const char*> {};

TEST_P(SharedFamilies, HaveTheSameBitsOnThreeRanks) {
  ODMOE_SHARED_OR_SKIP(model, std::string("models/families/") + GetParam() + ".gguf");
  expect_same_bits(model, {3}, {50});
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedFamilies, ::testing::ValuesIn(kFamilyFiles),
                         [](const auto& test) { return test_name(test.param); });

TEST(Ranks, TheBundledModelHasTheSameBitsOnOneToFourRanks) {
  expect_same_bits(bundled_model(), {1, 2, 3, 4}, {100, 50, 20});
}

TEST(Ranks, OtherTypesAndMergedProjectionsToo) {
  const TempDir dir;
  for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K}) {
    SCOPED_TRACE(ggml_type_name(type));
    const std::filesystem::path model = dir / "model.gguf";
    runnable_model(
        {.expert_type = type, .n_embd = 256, .n_ff_exp = 256, .merge_gate_up = type == GGML_TYPE_F16})
        .write(model);
    expect_same_bits(model, {2, 3}, {100});
  }
}

TEST(Ranks, ShareTheExpertsByTheirMemory) {
  const EngineOptions options = rank_options(bundled_model());
  RanksInThreads threads(3, options, {}, [](int rank, WorkerOptions& worker) {
    worker.engine.memory.percent = rank == 1 ? 50 : 25;
  });
  const auto engine = threads.open(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<Stats::Rank> ranks = engine->stats().ranks;
  ASSERT_EQ(ranks.size(), 3);
  EXPECT_NEAR(ranks[0].n_expert, 2 * ranks[1].n_expert, 0.1 * ranks[0].n_expert);  // whole slots
  EXPECT_NEAR(ranks[1].n_expert, 2 * ranks[2].n_expert, 0.1 * ranks[1].n_expert);
  EXPECT_EQ(ranks[1].host, "host1");
  EXPECT_THAT(threads.head().description(), HasSubstr("rank 2 (host2): "));
}

TEST(Ranks, TheThreadsOfAWorkerChangeNoBit) {
  const EngineOptions options = rank_options(bundled_model(), 25);
  const std::vector<float> wanted = bits_of_one_machine(options);
  RanksInThreads threads(3, options, {}, [](int rank, WorkerOptions& worker) {
    worker.engine.threads = rank;
    worker.engine.policy = rank == 1 ? PolicyKind::kLru : PolicyKind::kForecast;
  });
  const auto engine = threads.open(options);
  ASSERT_NE(engine, nullptr);
  EXPECT_TRUE(same(all_kinds(*engine), wanted));
}

TEST(Ranks, HintsReachTheOwners) {
  EngineOptions options = rank_options(bundled_model(), 25);
  options.predictor = PredictorKind::kStaleGate;
  RanksInThreads threads(2, options);
  const auto engine = threads.open(options);
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  GenerateOptions generate;
  generate.sampling.temperature = 0;
  generate.ignore_eos = true;
  generate.max_tokens = 150;
  const std::vector<Token> prompt = engine->encode("KING RICHARD:", true, true);
  ASSERT_TRUE(engine->generate(*session, prompt, generate, {}).has_value());
  EXPECT_GT(engine->stats().ranks[1].prefetched, 0);
}

}  // namespace
}  // namespace odmoe
