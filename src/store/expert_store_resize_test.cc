// The arena grows and shrinks while the store is in use.
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "base/memory_info.h"
#include "base/units.h"
#include "store/testing.h"

namespace odmoe {
namespace {

// Three layers of eight experts, two used, in an arena that may hold all 24.
class ExpertStoreResize : public ::testing::Test {
 protected:
  void make(int32_t n_slot, const FakeModel& model = {}, int32_t most = 24) {
    source_.emplace(model);
    source_->add_to(*disk_);
    slot_bytes_ = ExpertStore::max_arena_bytes(*source_, kSector) / 24;
    store_ = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 32, kSector),
                                 {.arena_bytes = slots(n_slot),
                                  .max_arena_bytes = slots(most),
                                  .read_bytes = 4096,
                                  .clock = disk_.get()})
                 .value();
  }
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
  void visit_everything() {
    for (int layer = 0; layer < 3; ++layer) {
      for (int32_t expert = 0; expert < 8; expert += 2) visit(layer, {expert, expert + 1});
    }
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

TEST_F(ExpertStoreResize, AShrunkenArenaKeepsTheMostRecentlyUsedOfEachLayerWithoutReadingThemAgain) {
  make(24);
  visit_everything();
  visit(1, {0, 1});
  const uint64_t reads = disk_->n_read();
  EXPECT_EQ(store_->resize(slots(9)), slots(9));
  EXPECT_EQ(resident(0), (std::vector{4, 6, 7}));
  EXPECT_EQ(resident(1), (std::vector{0, 1, 6}));
  EXPECT_EQ(store_->stats().n_slot, 9);
  EXPECT_EQ(store_->stats().arena_bytes, slots(9));
  EXPECT_EQ(store_->stats().resident, 9);
  EXPECT_GT(store_->stats().moves, 0U);
  for (int layer = 0; layer < 3; ++layer) {
    for (const int32_t expert : resident(layer)) visit(layer, {expert});
  }
  EXPECT_EQ(disk_->n_read(), reads);
}

TEST_F(ExpertStoreResize, EverySlotLeasedAfterwardsIsOneOfTheFirst) {
  make(24);
  visit_everything();
  store_->resize(slots(6));
  for (int layer = 0; layer < 3; ++layer) {
    for (int32_t expert = 0; expert < 8; ++expert) {
      const auto leases = lease(layer, {expert});
      ASSERT_LT(leases.front().slot(), 6);
    }
  }
}

TEST_F(ExpertStoreResize, AGrownArenaHoldsMore) {
  make(6);
  visit_everything();
  EXPECT_EQ(store_->stats().resident, 6);
  EXPECT_EQ(store_->resize(slots(24)), slots(24));
  visit_everything();
  EXPECT_EQ(store_->stats().resident, 24);
  const uint64_t reads = disk_->n_read();
  visit_everything();
  EXPECT_EQ(disk_->n_read(), reads);
}

TEST_F(ExpertStoreResize, TheSizeStaysBetweenTheLeastThatRunsTheModelAndTheReservedMost) {
  make(6, {}, 12);
  EXPECT_EQ(store_->resize(0), ExpertStore::min_arena_bytes(*source_, kSector));
  EXPECT_EQ(store_->resize(slots(1000)), slots(12));
  EXPECT_EQ(store_->stats().resizes, 2U);
  EXPECT_EQ(store_->resize(slots(12)), slots(12));
  EXPECT_EQ(store_->stats().resizes, 2U);
}

TEST_F(ExpertStoreResize, WithoutReservedAddressesAnArenaComesBackToItsFirstSizeAtMost) {
  make(6, {}, 0);
  EXPECT_EQ(store_->resize(slots(24)), slots(6));
  EXPECT_EQ(store_->resize(slots(3)), slots(3));
  EXPECT_EQ(store_->resize(slots(24)), slots(6));
}

TEST_F(ExpertStoreResize, LeasedExpertsStayWhereTheyAreAndTheirSlotsGoWhenTheyAreReleased) {
  make(24);
  visit_everything();
  auto leases = lease(2, {6, 7});
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  const std::vector<int32_t> where{leases[0].slot(), leases[1].slot()};
  ASSERT_GT(where[0], 2) << "the test needs a lease in a slot that goes";
  store_->resize(slots(3));
  for (size_t i = 0; i < leases.size(); ++i) {
    EXPECT_EQ(leases[i].slot(), where[i]);
    EXPECT_TRUE(holds_expert(*store_, *source_, leases[i]));
  }
  leases.clear();
  EXPECT_LE(store_->stats().resident, 3);
  visit_everything();
  EXPECT_LE(store_->stats().resident, 3);
}

TEST_F(ExpertStoreResize, AReadUnderWayEndsWellAndItsSlotGoesAfterwards) {
  make(24);
  visit_everything();
  for (const int32_t expert : {0, 1}) visit(2, {expert});
  disk_->hold();
  store_->resize(slots(20));
  auto late = lease(2, {2, 3, 4, 5});
  store_->resize(slots(3));
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(late).has_value());
  for (const ExpertLease& one : late) EXPECT_TRUE(holds_expert(*store_, *source_, one));
  late.clear();
  EXPECT_LE(store_->stats().resident, 3);
}

TEST_F(ExpertStoreResize, ClassesOfSlotsShrinkTogetherAndKeepWhatTheyNeed) {
  make(24, {.larger_from = 2, .larger_by = 512});
  visit_everything();
  const SlotView view = store_->slot_view(2);
  store_->resize(0);
  visit_everything();
  EXPECT_EQ(store_->stats().n_slot, 4);
  EXPECT_EQ(store_->slot_view(2).first_slot_offset, view.first_slot_offset);
}

TEST_F(ExpertStoreResize, MemoryGoesBackToTheSystem) {
  constexpr uint64_t kSlice = 700'000;  // a slot is not a multiple of a large page
  make(24, {.slice_bytes = {kSlice, kSlice, kSlice}});
  visit_everything();
  const uint64_t full = resident_bytes();
  store_->resize(slots(6));
  EXPECT_LT(resident_bytes(), full - slots(18) + 4 * kMiB);
  store_->resize(slots(24));
  EXPECT_LT(resident_bytes(), full - slots(18) + 4 * kMiB);
  visit_everything();
}

}  // namespace
}  // namespace odmoe
