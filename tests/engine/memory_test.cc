// The arena shrinks and grows while the engine runs: for the KV cache, for others on the machine, at random.
// No logit depends on it, and the process stays within its budget.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "base/units.h"
#include "tests/engine/test_models.h"

namespace odmoe::memory_test {
namespace {

using namespace odmoe::testing;

constexpr std::string_view kText =
    "In the beginning was the word, and the word was with the people of the United States; and it came to "
    "pass that the king said unto his servants, What is the matter? Romeo, thou art a villain.";

EngineOptions memory_options(MemoryBudget memory) {
  EngineOptions options = reference_options(bundled_model());
  options.memory = memory;
  options.cache_type = CacheType::kF16;
  options.chunk = 32;
  return options;
}
EngineOptions percent(double p) {
  return memory_options({.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = p});
}
EngineOptions automatic() { return memory_options({}); }

// The logits of a prompt and of `n_decode` tokens after it; `between` is called before each evaluation.
std::vector<float> run(EngineImpl& engine, int n_decode, const std::function<void()>& between = {}) {
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  };
  auto session = engine.new_session().value();
  const std::vector<Token> tokens = engine.encode(kText, true, true);
  if (between) between();
  EXPECT_TRUE(session->evaluate(tokens, collect).has_value());
  for (int i = 0; i < n_decode; ++i) {
    if (between) between();
    const auto next =
        static_cast<Token>(std::ranges::max_element(session->logits()) - session->logits().begin());
    EXPECT_TRUE(session->evaluate({&next, 1}, collect).has_value());
  }
  return logits;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> resident_logits(int n_decode) {
  const auto engine = open_or_fail(percent(100));
  return engine == nullptr ? std::vector<float>{} : run(*engine, n_decode);
}

// More than any arena of the bundled model.
constexpr uint64_t kMuch = kGiB;

TEST(EngineMemory, AnArenaThatChangesBetweenTokensChangesNoLogit) {
  const std::vector<float> wanted = resident_logits(40);
  const auto engine = open_or_fail(automatic());
  ASSERT_NE(engine, nullptr);
  std::mt19937 random(3);
  const uint64_t all = engine->store().resize(kMuch);
  EXPECT_TRUE(same(run(*engine, 40, [&] { engine->store().resize(random() % all); }), wanted));
  const Stats stats = engine->stats();
  EXPECT_GT(stats.arena_resizes, 20U);
  EXPECT_GT(stats.experts.evictions, 0U);
}

TEST(EngineMemory, AnArenaThatChangesDuringTokensChangesNoLogit) {
  const std::vector<float> wanted = resident_logits(40);
  const auto engine = open_or_fail(automatic());
  ASSERT_NE(engine, nullptr);
  const uint64_t all = engine->store().resize(kMuch);
  std::atomic<bool> done = false;
  std::thread resizer([&] {
    std::mt19937 random(4);
    while (!done) engine->store().resize(random() % all);
  });
  const bool equal = same(run(*engine, 40), wanted);
  done = true;
  resizer.join();
  EXPECT_TRUE(equal);
  EXPECT_GT(engine->stats().arena_resizes, 0U);
}

TEST(EngineMemory, AutoFollowsTheMachineAndChangesNoLogit) {
  const std::vector<float> wanted = resident_logits(40);
  EngineDependencies dependencies;
  std::atomic<uint64_t> all = 100 * kGiB;
  std::atomic<int64_t> now_us = 0;
  dependencies.sample_memory = [&]() -> MemorySample {
    return {.now_us = now_us += 1'000'000, .available_bytes = all, .resident_bytes = 0, .stall_us = 0};
  };
  const auto engine = open_or_fail(automatic(), dependencies);
  ASSERT_NE(engine, nullptr);
  const uint64_t whole = engine->stats().arena_bytes_now;
  int token = 0;
  uint64_t least = whole;
  EXPECT_TRUE(same(run(*engine, 40,
                       [&] {
                         // Another program takes nearly everything for a while.
                         all = ++token < 20 ? 1 : 100 * kGiB;
                         while (token == 5 && engine->stats().arena_bytes_now == whole) {
                           std::this_thread::yield();
                         }
                         least = std::min(least, engine->stats().arena_bytes_now);
                       }),
                   wanted));
  EXPECT_LT(least, whole / 2);
  while (engine->stats().arena_bytes_now < whole) std::this_thread::yield();
}

TEST(EngineMemory, TheArenaHasTheMemoryThatTheKvCacheDoesNotUseYetAndGivesItUpAsTheContextFills) {
  ODMOE_SKIP_UNDER_ASAN("two openings do not take the same memory");
  EngineOptions options = percent(1);
  options.context = 2048;
  options.chunk = 128;
  options.memory = percent(1).memory;
  const MemoryPlan needs = EngineImpl::memory_plan(options).value();
  // What the process itself has grows a little between two openings.
  options.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = needs.budget_bytes + kMiB, .percent = 0};
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const MemoryPlan& plan = engine->plan();
  const uint64_t others = plan.budget_bytes - plan.kv_bytes - plan.arena_bytes;
  const auto within_budget = [&](const Stats& stats) {
    return others + std::min(stats.kv_bytes_in_use, plan.kv_bytes) + stats.arena_bytes_now <=
           plan.budget_bytes;
  };
  const Stats before = engine->stats();
  EXPECT_GT(before.arena_bytes_now, plan.arena_bytes);
  EXPECT_EQ(before.kv_bytes_in_use, 0U);
  EXPECT_TRUE(within_budget(before));
  {
    auto session = engine->new_session().value();
    const std::vector<Token> tokens(500, 65);
    uint64_t last = 0;
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(session->evaluate(tokens).has_value());
      const Stats now = engine->stats();
      EXPECT_GT(now.kv_bytes_in_use, last);
      EXPECT_TRUE(within_budget(now));
      last = now.kv_bytes_in_use;
    }
    EXPECT_LT(engine->stats().arena_bytes_now, before.arena_bytes_now);
  }
  EXPECT_EQ(engine->stats().kv_bytes_in_use, 0U);
  EXPECT_EQ(engine->stats().arena_bytes_now, before.arena_bytes_now);
}

TEST(EngineMemory, AKvCacheThatAnotherSessionUsedBeforeChangesNoLogit) {
  EngineOptions options = percent(50);
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<float> first = run(*engine, 20);
  EXPECT_TRUE(same(run(*engine, 20), first));
}

TEST(EngineMemory, AShareOfTheExpertsIsKeptWhateverTheKvCacheDoes) {
  const auto engine = open_or_fail(percent(25));
  ASSERT_NE(engine, nullptr);
  const uint64_t before = engine->stats().arena_bytes_now;
  run(*engine, 5);
  EXPECT_EQ(engine->stats().arena_bytes_now, before);
  EXPECT_EQ(engine->stats().arena_resizes, 0U);
}

}  // namespace
}  // namespace odmoe::memory_test
