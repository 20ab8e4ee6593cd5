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

// What is said of three prompts, of which chunks of several lengths are read in one pass, and of a text that
// is written meanwhile.
std::vector<float> several_prompts(EngineImpl& engine, bool together) {
  constexpr size_t kPasses = 3;
  const std::vector<Token> text = engine.encode(kText, true, true);
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(engine.new_session().value());
  EXPECT_TRUE(sessions[1]->evaluate(std::span(text).first(5)).has_value());
  std::vector<float> logits;
  size_t done = 0;
  for (size_t pass = 0; pass < kPasses; ++pass) {
    const Token next = likeliest(sessions[1]->logits());
    const auto part = [&](size_t session, size_t from, size_t n) {
      return NextTokens{.session = sessions[session].get(), .tokens = std::span(text).subspan(from, n)};
    };
    const std::array parts = {part(0, done, 8),
                              NextTokens{.session = sessions[1].get(), .tokens = {&next, 1}},
                              part(2, done + 1, 5 - pass), part(3, done, 2 + pass)};
    if (together) {
      EXPECT_TRUE(engine.advance(parts).has_value());
    } else {
      for (const NextTokens& one : parts) EXPECT_TRUE(one.session->evaluate(one.tokens).has_value());
    }
    for (const auto& session : sessions) {
      logits.insert(logits.end(), session->logits().begin(), session->logits().end());
    }
    done += 8;
  }
  return logits;
}

void expect_same_bits_of_prompts(const std::filesystem::path& model, std::initializer_list<int> ranks) {
  EngineOptions options = rank_options(model, 25);
  options.chunk = 8;
  options.sessions = 4;
  options.prompts = 3;
  std::vector<float> wanted;
  if (const auto engine = open_or_fail(options)) wanted = several_prompts(*engine, /*together=*/false);
  ASSERT_FALSE(wanted.empty());
  for (const int n_rank : ranks) {
    SCOPED_TRACE(odmoe::format("{} ranks", n_rank));
    RanksInThreads threads(n_rank, options);
    const auto engine = threads.open(options);
    ASSERT_NE(engine, nullptr);
    EXPECT_TRUE(same(several_prompts(*engine, /*together=*/true), wanted));
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
  expect_same_bits_of_prompts(model, {2});
}

INSTANTIATE_TEST_SUITE_P(Ranks, SharedFamilies, ::testing::ValuesIn(kFamilyFiles),
                         [](const auto& test) { return test_name(test.param); });

TEST(Ranks, TheBundledModelHasTheSameBitsOnOneToFourRanks) {
  expect_same_bits(bundled_model(), {1, 2, 3, 4}, {100, 50, 20});
}

TEST(Ranks, SeveralPromptsInOnePassHaveTheSameBitsOnOneToFourRanks) {
  expect_same_bits_of_prompts(bundled_model(), {1, 2, 3, 4});
}

TEST(Ranks, APassOfSeveralPromptsIsOneMessageForEachLayerToEachOwner) {
  EngineOptions options = rank_options(bundled_model());
  options.chunk = 8;
  options.sessions = 4;
  options.prompts = 3;
  RanksInThreads threads(3, options);
  const auto engine = threads.open(options);
  ASSERT_NE(engine, nullptr);
  std::array<std::atomic<int>, 3> sent{}, came{};
  threads.network().meddle = [&](int from, int to, std::vector<std::byte>&) {
    ++(from == 0 ? sent[static_cast<size_t>(to)] : came[static_cast<size_t>(from)]);
  };
  const std::vector<Token> text = engine->encode(kText, true, true);
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<NextTokens> parts;
  for (size_t i = 0; i < 4; ++i) {
    sessions.push_back(engine->new_session().value());
    parts.push_back({.session = sessions[i].get(), .tokens = std::span(text).first(i < 3 ? 8 : 1)});
  }
  ASSERT_TRUE(engine->advance(parts).has_value());
  threads.network().meddle = {};
  for (size_t rank = 1; rank < 3; ++rank) {
    EXPECT_EQ(sent[rank], engine->model().n_expert_layer);
    EXPECT_EQ(came[rank], engine->model().n_expert_layer);
  }
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

// Of an arena with room for all experts each rank's own are there, and no others.
bool all_own_are_there(const Stats& stats) {
  return std::ranges::all_of(stats.ranks, [](const Stats::Rank& rank) { return rank.misses == 0; });
}

TEST(Ranks, FillTheirMemoryWithTheirOwnExperts) {
  EngineOptions options = rank_options(bundled_model());
  const std::vector<float> wanted = bits_of_one_machine(options);
  options.fill = true;
  RanksInThreads threads(3, options);
  const auto engine = threads.open(options);
  ASSERT_NE(engine, nullptr);
  const Stats opened = engine->stats();
  const uint64_t bytes_of_one =
      engine->model().expert_bytes /
      static_cast<uint64_t>(engine->model().n_expert * engine->model().n_expert_layer);
  while (engine->stats().io.experts_filled < static_cast<uint64_t>(opened.ranks[0].n_expert)) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(same(all_kinds(*engine), wanted));
  const Stats stats = engine->stats();
  EXPECT_EQ(stats.io.experts_filled, stats.ranks[0].n_expert);
  EXPECT_EQ(stats.ranks[0].misses, 0);
  for (const Stats::Rank& rank : stats.ranks) {
    // Experts of all three would be more; the padding of records is read, too.
    EXPECT_LT(rank.read_bytes, 2 * static_cast<double>(bytes_of_one) * rank.n_expert) << rank.rank;
  }
}

TEST(Ranks, WarmTheOwnersMemory) {
  const EngineOptions options = rank_options(bundled_model());
  const std::vector<float> wanted = bits_of_one_machine(options);
  RanksInThreads threads(3, options);
  const auto engine = threads.open(options);
  ASSERT_NE(engine, nullptr);
  std::vector<LikelyExpert> all;
  for (const int layer : engine->decoder().expert_layers()) {
    for (int32_t expert = 0; expert < engine->model().n_expert; ++expert) {
      all.push_back({.layer = layer, .expert = expert});
    }
  }
  uint64_t n_read = 0, n_expert = 0;
  const LoadProgress progress = [&](uint64_t done, uint64_t total) {
    n_read = done;
    n_expert = std::max(n_expert, total);
    return true;
  };
  ASSERT_TRUE(engine->warm(all, progress).has_value());
  EXPECT_EQ(n_expert, all.size());
  EXPECT_TRUE(same(all_kinds(*engine), wanted));
  EXPECT_TRUE(all_own_are_there(engine->stats()));
  // Again: there is nothing to do.
  EXPECT_TRUE(engine->warm(all, {}).has_value());
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
