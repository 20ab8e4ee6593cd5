#include "engine/device_arena.h"

#include <gtest/gtest.h>

#include <vector>

#include "store/testing.h"

namespace odmoe {
namespace {

class ArenaOnADevice : public ::testing::Test {
 protected:
  ArenaOnADevice() {
    SlotPlan plan = DeviceArena::plan(source_, {});
    plan.divide(4 * 4096);
    const std::vector<int32_t> most = {3};
    arena_ = DeviceArena::create(*device_, *host_, source_, std::move(plan), most, PolicyKind::kLru).value();
  }
  // A record whose bytes are all of one value.
  std::optional<int32_t> bring(ExpertKey key, std::byte value) {
    std::vector<std::byte> record(4096, value);
    return arena_->bring(key, record.data(), record.data() + 1024, record.data() + 2048).value();
  }
  const FakeSource source_{{.n_layer = 1}};
  std::unique_ptr<Backend> host_ = Backend::create(1).value();
  std::unique_ptr<Backend> device_ = Backend::create({.threads = 1, .memory_of_its_own = true}).value();
  std::unique_ptr<DeviceArena> arena_;
};

TEST_F(ArenaOnADevice, HoldsWhatWasBroughtUntilItIsReleased) {
  for (int32_t expert = 0; expert < 4; ++expert) EXPECT_TRUE(bring({0, expert}, std::byte{1}));
  EXPECT_FALSE(bring({0, 4}, std::byte{1})) << "all slots are held";
  EXPECT_TRUE(arena_->resident({0, 3}));
  EXPECT_FALSE(arena_->resident({0, 4}));
  arena_->release();
  EXPECT_TRUE(arena_->hold({0, 0}));
  EXPECT_FALSE(arena_->hold({0, 4}));
  EXPECT_TRUE(bring({0, 4}, std::byte{1}));
  EXPECT_TRUE(arena_->resident({0, 0})) << "it is held";
  EXPECT_FALSE(arena_->resident({0, 1})) << "used the longest ago";
  EXPECT_TRUE(arena_->resident({0, 4}));
}

TEST_F(ArenaOnADevice, CountsWhatItDoes) {
  for (int32_t expert = 0; expert < 6; ++expert) {
    ASSERT_TRUE(bring({0, expert}, std::byte{1}));
    arena_->release();
  }
  ASSERT_TRUE(arena_->hold({0, 5}));
  const DeviceArena::Figures figures = arena_->figures();
  EXPECT_EQ(figures.copies, 6U);
  EXPECT_EQ(figures.copied_bytes, 6U * 4096);
  EXPECT_EQ(figures.evictions, 2U);
  EXPECT_EQ(figures.hits, 1U);
  EXPECT_EQ(figures.resident, 4);
}

}  // namespace
}  // namespace odmoe
