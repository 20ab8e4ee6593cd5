#include "store/slot_arena.h"

#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "store/testing.h"

namespace odmoe {
namespace {

TEST(SlotPlan, LayersOfOneRecordSizeAreOneClassAndDenseLayersAreInNone) {
  const FakeSource source({.n_layer = 5, .n_dense = 1, .larger_from = 3, .larger_by = 64});
  const SlotPlan plan(source, kBuffered);
  ASSERT_EQ(plan.classes().size(), 2U);
  EXPECT_EQ(plan.class_of(0), -1);
  EXPECT_EQ(plan.classes()[0].layers, (std::vector{1, 2}));
  EXPECT_EQ(plan.classes()[1].layers, (std::vector{3, 4}));
  EXPECT_EQ(plan.min_bytes(), 2 * (4096U + 4288U));
  EXPECT_EQ(plan.max_bytes(), 16 * (4096U + 4288U));
}

TEST(SlotPlan, SlotsOfAClassAreAsFarApartAsAnyOfItsLayersWants) {
  const FakeSource source({.n_layer = 2});
  const SlotPlan plan(source, kBuffered, {.slot_multiples = {144, 210}});
  ASSERT_EQ(plan.classes().size(), 1U);
  EXPECT_EQ(plan.classes()[0].slot_bytes % 144, 0U);
  EXPECT_EQ(plan.classes()[0].slot_bytes % 210, 0U);
}

TEST(SlotPlan, LayersThatDifferOnlyInPhaseShareTheirSlots) {
  class Shifted final : public ExpertSource {
   public:
    int n_layer() const override { return 2; }
    int n_expert(int layer) const override { return base_.n_expert(layer); }
    int n_expert_used() const override { return 2; }
    const RecordLayout& layout(int layer) const override { return base_.layout(layer); }
    SliceLocation locate(ExpertKey key, int slice) const override {
      SliceLocation location = base_.locate(key, slice);
      location.offset += key.layer == 1 ? 4064 : 0;
      return location;
    }
    const std::vector<std::filesystem::path>& files() const override { return base_.files(); }

   private:
    FakeSource base_{{.n_layer = 2, .slice_bytes = {4096, 4096, 4096}}};
  } const source;
  const SlotPlan plan(source, {.offset_bytes = 4096, .memory_bytes = 4096});
  EXPECT_LT(plan.layout(0).slot_bytes, plan.layout(1).slot_bytes);
  ASSERT_EQ(plan.classes().size(), 1U);
  EXPECT_EQ(plan.classes()[0].slot_bytes, plan.layout(1).slot_bytes);
}

TEST(SlotPlan, ClassesGetAsManySlotsPerLayerWithinTheBudget) {
  const FakeSource source({.n_layer = 9, .larger_from = 6, .larger_by = 1024});  // 6 small layers, 3 large
  SlotPlan plan(source, kBuffered);
  for (uint64_t budget = plan.min_bytes(); budget < plan.max_bytes() + 100'000; budget += 5000) {
    plan.divide(budget);
    const SlotClass& small = plan.classes()[0];
    const SlotClass& large = plan.classes()[1];
    ASSERT_LE(plan.bytes(), std::min(budget, plan.max_bytes()));
    ASSERT_GE(small.n_slot, 2);
    ASSERT_GE(large.n_slot, 2);
    if (small.n_slot > 2 && large.n_slot > 2) {
      ASSERT_NEAR(small.n_slot / 6.0, large.n_slot / 3.0, 1.01) << budget;
    }
    if (small.n_slot < small.n_expert) {
      ASSERT_GT(plan.bytes() + small.slot_bytes, budget) << "a slot more would have fitted";
    }
    ASSERT_EQ(large.first_slot, small.n_slot);
    ASSERT_EQ(large.first_offset, small.slot_bytes * static_cast<uint64_t>(small.n_slot));
  }
  EXPECT_EQ(plan.n_slot(), 72);
}

TEST(SlotPlan, AModelWithoutExpertsNeedsNothing) {
  const FakeSource source({.n_layer = 2, .n_dense = 2});
  SlotPlan plan(source, kBuffered);
  EXPECT_EQ(plan.min_bytes(), 0U);
  plan.divide(1000);
  EXPECT_EQ(plan.n_slot(), 0);
}

class SlotArenaTest : public ::testing::Test {
 protected:
  SlotArenaTest() : source_({.n_layer = 40, .larger_from = 20, .larger_by = 64}), plan_(source_, kBuffered) {
    plan_.divide(plan_.max_bytes());
    arena_ = SlotArena::create(plan_).value();
  }
  FakeSource source_;
  SlotPlan plan_;
  std::optional<SlotArena> arena_;
};

TEST_F(SlotArenaTest, GivesSlotsOfTheHomeFirstAndThenTheNearest) {
  const auto take = [this] { return arena_->take(0, 100, 2); };
  EXPECT_EQ(take(), 100);
  EXPECT_EQ(take(), 101);
  EXPECT_EQ(take(), 102);
  EXPECT_EQ(take(), 99);
  arena_->give_back(101);
  EXPECT_EQ(take(), 101);
  EXPECT_EQ(arena_->take(0, 98, 0), 98);
}

TEST_F(SlotArenaTest, EverySlotOfAClassIsGivenOnceAndNoneOfAnother) {
  std::set<int32_t> slots;
  for (int i = 0; i < 160; ++i) slots.insert(arena_->take(1, 160 + i * 7 % 160, 1));
  EXPECT_EQ(slots.size(), 160U);
  EXPECT_EQ(*slots.begin(), 160);
  EXPECT_EQ(*slots.rbegin(), 319);
  EXPECT_EQ(arena_->take(1, 200, 4), -1);
  EXPECT_EQ(arena_->take(0, 159, 1), 159);
}

TEST_F(SlotArenaTest, SlotsLieWhereTheViewSays) {
  const SlotClass& second = plan_.classes()[1];
  EXPECT_EQ(arena_->slot(0), arena_->bytes().data());
  EXPECT_EQ(arena_->slot(163), arena_->bytes().data() + second.first_offset + 3 * second.slot_bytes);
  EXPECT_EQ(arena_->bytes().size(), plan_.bytes());
}

}  // namespace
}  // namespace odmoe
