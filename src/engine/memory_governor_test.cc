#include "engine/memory_governor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/units.h"
#include "store/testing.h"

namespace odmoe {
namespace {

// Three layers of eight experts of 4 KiB; the KV caches take 32 KiB when they are full.
class MemoryGovernorTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kSlot = 4096;

  void SetUp() override {
    source_.add_to(*disk_);
    store_ = ExpertStore::create(source_, std::make_unique<FakeReader>(disk_),
                                 {.arena_bytes = 8 * kSlot, .max_arena_bytes = 24 * kSlot})
                 .value();
    ASSERT_EQ(ExpertStore::max_arena_bytes(source_, {}), 24 * kSlot);
  }
  MemoryGovernor::Limits limits() const {
    return {.budget_bytes = 1'000'000 + 16 * kSlot,
            .fixed_bytes = 1'000'000,
            .min_arena_bytes = 2 * kSlot,
            .max_arena_bytes = 24 * kSlot,
            .kv_bytes = 8 * kSlot,
            .margin_bytes = 4 * kSlot};
  }
  int32_t n_slot() const { return store_->stats().n_slot; }

  FakeSource source_{{}};
  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(MemoryGovernorTest, TheArenaHasWhatTheKvCachesDoNotUseYet) {
  MemoryGovernor governor(*store_, limits());
  EXPECT_EQ(n_slot(), 16);
  governor.take_kv(3 * kSlot);
  EXPECT_EQ(n_slot(), 13);
  governor.take_kv(5 * kSlot);
  EXPECT_EQ(n_slot(), 8);
  EXPECT_EQ(governor.kv_bytes_in_use(), 8 * kSlot);
  governor.take_kv(kSlot / 2);
  EXPECT_EQ(n_slot(), 8) << "the caches' edges are in the plan";
  governor.return_kv(8 * kSlot + kSlot / 2);
  EXPECT_EQ(n_slot(), 16);
}

TEST_F(MemoryGovernorTest, AnArenaOfOneSizeKeepsIt) {
  MemoryGovernor::Limits one = limits();
  one.min_arena_bytes = one.max_arena_bytes = 8 * kSlot;
  MemoryGovernor governor(*store_, one);
  governor.take_kv(8 * kSlot);
  EXPECT_EQ(n_slot(), 8);
  EXPECT_EQ(store_->stats().resizes, 0U);
}

TEST_F(MemoryGovernorTest, ItFollowsTheMachineDownToTheLeastThatRunsTheModel) {
  std::atomic<uint64_t> all = 1'000'000 + 20 * kSlot;
  std::atomic<int64_t> now_us = 0;
  const auto sample = [&]() -> MemorySample {
    return {.now_us = now_us += 1'000'000, .available_bytes = all, .resident_bytes = 0, .stall_us = 0};
  };
  MemoryGovernor governor(*store_, limits());
  ASSERT_TRUE(governor.follow(sample).has_value());
  all = 1'000'000 + 10 * kSlot;
  while (n_slot() != 6) std::this_thread::yield();
  all = 0;
  while (n_slot() != 2) std::this_thread::yield();
  all = 1'000'000 + 20 * kSlot;
  while (n_slot() < 14) std::this_thread::yield();
}

}  // namespace
}  // namespace odmoe
