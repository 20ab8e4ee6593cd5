// Free slots are filled while nobody asks for anything.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <thread>

#include "store/testing.h"

namespace odmoe {
namespace {

// Three layers of eight experts of 4 KiB in one read each, two used.
class ExpertStoreFill : public ::testing::Test {
 protected:
  void make(int32_t n_slot, int32_t most = 0, PolicyKind policy = PolicyKind::kForecast, FakeModel model = {},
            int read_attempts = 1) {
    model.packed = true;
    source_.emplace(model);
    source_->add_to(*disk_);
    slot_bytes_ = ExpertStore::max_arena_bytes(*source_, kSector) / 24;
    store_ = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 4, kSector),
                                 {.arena_bytes = slots(n_slot),
                                  .max_arena_bytes = slots(most),
                                  .read_attempts = read_attempts,
                                  .read_bytes = 4096,
                                  .policy = policy,
                                  .fill = ExpertStoreOptions::Fill::kAtOnce,
                                  .clock = disk_.get()})
                 .value();
  }
  ~ExpertStoreFill() override { disk_->resume(); }
  uint64_t slots(int32_t n) const { return slot_bytes_ * static_cast<uint64_t>(n); }

  std::vector<ExpertLease> lease(int layer, std::vector<int32_t> experts) {
    std::vector<ExpertLease> leases;
    store_->lease(layer, experts, leases);
    return leases;
  }
  void visit(int layer, std::vector<int32_t> experts) {
    std::vector<ExpertLease> leases = lease(layer, std::move(experts));
    ASSERT_TRUE(store_->wait_all(leases).has_value());
    for (const ExpertLease& one : leases) ASSERT_TRUE(holds_expert(*store_, *source_, one));
  }
  void await_residents(int32_t n) const {
    while (store_->stats().resident != n) std::this_thread::yield();
  }
  std::vector<int32_t> resident(int layer) const {
    std::vector<int32_t> experts;
    for (int32_t expert = 0; expert < 8; ++expert) {
      if (store_->residency({layer, expert}) == Residency::kResident) experts.push_back(expert);
    }
    return experts;
  }

  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::optional<FakeSource> source_;
  std::unique_ptr<ExpertStore> store_;
  uint64_t slot_bytes_ = 0;
};

TEST_F(ExpertStoreFill, EverythingThatFitsIsReadOnceAndNothingIsReadAfterwards) {
  make(24);
  await_residents(24);
  for (int layer = 0; layer < 3; ++layer) visit(layer, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(disk_->n_read(), 24U);
  const ExpertStoreStats stats = store_->stats();
  EXPECT_EQ(stats.hits, 24U);
  EXPECT_EQ(stats.filled, 24U);
  EXPECT_EQ(stats.filled_used, 24U);
  EXPECT_EQ(stats.fill_read_bytes, 24U * 4096);
  EXPECT_EQ(stats.demand_read_bytes + stats.prefetch_read_bytes, 0U);
}

TEST_F(ExpertStoreFill, FollowsTheOrderOfLayersAndExperts) {
  disk_->hold();
  make(24);
  for (size_t n = 0; n < 24; ++n) {
    disk_->wait_for_reads(n + 1);
    disk_->complete();
  }
  const auto reads = disk_->reads();
  ASSERT_EQ(reads.size(), 24U);
  for (size_t n = 0; n < 24; ++n) {
    EXPECT_EQ(reads[n].path, source_->files()[n / 8]);
    EXPECT_EQ(reads[n].offset, n % 8 * 4096);
  }
}

TEST_F(ExpertStoreFill, EachLayerGetsItsShareAndNothingIsEvictedForIt) {
  for (const PolicyKind policy : {PolicyKind::kForecast, PolicyKind::kLayerLru, PolicyKind::kLru,
                                  PolicyKind::kLfu, PolicyKind::kLfuAging}) {
    make(9, 0, policy);
    await_residents(9);
    for (int layer = 0; layer < 3; ++layer) EXPECT_EQ(resident(layer), (std::vector{0, 1, 2}));
    EXPECT_EQ(store_->stats().evictions, 0U);
    store_.reset();
  }
}

TEST_F(ExpertStoreFill, OnlyWhatMayFillSlotsDoes) {
  disk_->hold();
  make(24);
  store_->set_fill(false);
  store_->fill_only([](ExpertKey key) { return key.expert % 4 == key.layer; });
  disk_->resume();
  const uint64_t before = store_->stats().filled;  // those that had begun
  store_->set_fill(true);
  while (!std::ranges::includes(resident(2), std::vector{2, 6})) std::this_thread::yield();
  while (!std::ranges::includes(resident(1), std::vector{1, 5})) std::this_thread::yield();
  EXPECT_EQ(resident(2), (std::vector{2, 6}));
  EXPECT_LE(store_->stats().filled, before + 6);
}

TEST_F(ExpertStoreFill, ADemandGoesBeforeWhatIsLeftOfIt) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);  // half of the depth
  auto leases = lease(2, {6, 7});
  disk_->wait_for_reads(4);
  const auto reads = disk_->reads();
  EXPECT_EQ(reads[2].path, "layer2");
  EXPECT_EQ(reads[3].path, "layer2");
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  await_residents(24);
  EXPECT_EQ(disk_->n_read(), 24U);
}

TEST_F(ExpertStoreFill, AHintGoesBeforeWhatIsLeftOfIt) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);
  store_->prefetch(std::array{ExpertKey{2, 7}}, Reach::kBorrow);
  disk_->wait_for_reads(3);
  EXPECT_EQ(disk_->reads()[2].path, "layer2");
  disk_->resume();
  await_residents(24);
}

TEST_F(ExpertStoreFill, GoesOnWithTheLayerWhoseTurnIsNext) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);
  auto leases = lease(1, {0});  // layer 0 has its slots by now
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  await_residents(24);
  const auto reads = disk_->reads();
  EXPECT_EQ(reads.back().path, "layer1");
}

TEST_F(ExpertStoreFill, AnExpertThatIsWantedWhileItIsReadIsReadOnce) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);
  auto leases = lease(0, {0, 1});
  EXPECT_EQ(store_->stats().late_hits, 2U);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  for (const ExpertLease& one : leases) EXPECT_TRUE(holds_expert(*store_, *source_, one));
  await_residents(24);
  EXPECT_EQ(disk_->n_read(), 24U);
}

TEST_F(ExpertStoreFill, WhatItBroughtIsEvictedBeforeWhatWasUsed) {
  for (const PolicyKind policy : {PolicyKind::kForecast, PolicyKind::kLayerLru, PolicyKind::kLru,
                                  PolicyKind::kLfu, PolicyKind::kLfuAging}) {
    disk_->hold();
    make(12, 0, policy);
    disk_->wait_for_reads(1);
    auto leases = lease(0, {5});  // before the layer's own are there
    disk_->resume();
    ASSERT_TRUE(store_->wait_all(leases).has_value());
    leases.clear();
    await_residents(12);
    visit(1, {6, 7});
    visit(2, {6});
    for (const ExpertKey key : {ExpertKey{0, 5}, {1, 6}, {1, 7}, {2, 6}}) {
      EXPECT_EQ(store_->residency(key), Residency::kResident);
    }
    store_.reset();
  }
}

TEST_F(ExpertStoreFill, AReadThatFailsIsNobodysErrorAndADemandTriesAfresh) {
  disk_->inject({.path = "layer1", .begin = 0, .end = 4096, .error = EIO, .times = 1});
  make(24);
  await_residents(23);
  EXPECT_EQ(store_->residency({1, 0}), Residency::kAbsent);
  EXPECT_EQ(store_->stats().failed_reads, 1U);
  visit(1, {0});
  EXPECT_EQ(store_->stats().resident, 24);
  EXPECT_EQ(store_->stats().misses, 1U);
}

TEST_F(ExpertStoreFill, ADamagedRecordIsReadAgainAsAFill) {
  disk_->randomise(3, 0, 0, 30);
  disk_->run_by_itself();
  make(24, 0, PolicyKind::kForecast, {.checksums = true}, 10);
  await_residents(24);
  const ExpertStoreStats stats = store_->stats();
  EXPECT_GT(stats.read_retries, 0U);
  EXPECT_EQ(stats.demand_read_bytes + stats.prefetch_read_bytes, 0U);
  EXPECT_EQ(stats.prefetched, 0U);
}

TEST_F(ExpertStoreFill, AStoreCanBeDestroyedInTheMiddleOfIt) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);
  std::thread releases([&] { disk_->resume(); });
  store_.reset();
  releases.join();
  EXPECT_LE(disk_->n_read(), 24U);
}

TEST_F(ExpertStoreFill, CanBeStoppedAndBegunAgain) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);
  store_->set_fill(false);
  disk_->resume();
  const auto begun = static_cast<int32_t>(store_->stats().filled);
  EXPECT_LT(begun, 24);
  await_residents(begun);
  EXPECT_EQ(disk_->n_read(), static_cast<uint64_t>(begun));
  store_->set_fill(true);
  await_residents(24);
  EXPECT_EQ(disk_->n_read(), 24U);
}

TEST_F(ExpertStoreFill, GoesOnWhenTheArenaGrows) {
  make(6, 24);
  await_residents(6);
  EXPECT_EQ(store_->resize(slots(24)), slots(24));
  await_residents(24);
  EXPECT_EQ(disk_->n_read(), 24U);
}

TEST_F(ExpertStoreFill, AnArenaThatShrinksInTheMiddleOfItIsLeftWithWhatFits) {
  disk_->hold();
  make(24, 24);
  disk_->wait_for_reads(2);
  store_->resize(slots(6));
  disk_->resume();
  await_residents(6);
  EXPECT_EQ(store_->stats().n_slot, 6);
  for (int layer = 0; layer < 3; ++layer) {
    for (const int32_t expert : resident(layer)) visit(layer, {expert});
  }
}

TEST_F(ExpertStoreFill, LeavesALayerItsSlotsForADemand) {
  disk_->hold();
  make(2);  // the minimum: whatever fills them is in the way
  auto leases = lease(1, {3, 4});
  EXPECT_EQ(leases.size(), 2U);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
}

TEST_F(ExpertStoreFill, TimeOfItsReadsIsTimeInWhichNothingThatIsWantedIsRead) {
  disk_->hold();
  make(24);
  disk_->wait_for_reads(2);
  disk_->advance_us(70);
  auto leases = lease(1, {3});
  disk_->wait_for_reads(3);
  disk_->advance_us(30);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  await_residents(24);
  const ExpertStoreStats stats = store_->stats();
  EXPECT_EQ(stats.read_busy_us, 100U);
  EXPECT_EQ(stats.wanted_busy_us, 30U);
}

}  // namespace
}  // namespace odmoe
