#include "engine/device_arena.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <set>
#include <span>
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
    arena_ = DeviceArena::create(*device_, *host_, source_, std::move(plan), most, PolicyKind::kLru,
                                 [this](ExpertKey key) { return on_host_.contains(key.expert); })
                 .value();
  }
  // A record whose bytes are all of one value.
  std::optional<int32_t> bring(ExpertKey key, std::byte value) {
    std::vector<std::byte> record(4096, value);
    return arena_->bring(key, record.data(), record.data() + 1024, record.data() + 2048).value();
  }
  // What the device has in a slot.
  std::vector<std::byte> read_back(int32_t slot, uint64_t offset, size_t n) {
    const DeviceSlots& slots = arena_->slots_of(0);
    const ggml_context_ptr context(
        ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    ggml_tensor* tensor = ggml_new_tensor_1d(context.get(), GGML_TYPE_I8, static_cast<int64_t>(n));
    const int32_t window = slots.window_of(slot);
    const auto before = static_cast<uint64_t>(slot - slots.first_slot(window));
    EXPECT_TRUE(slots.place(tensor, window, before * arena_->slots().layout(0).slot_bytes + offset));
    std::vector<std::byte> bytes(n);
    device_->read(tensor, 0, bytes);
    return bytes;
  }
  const FakeSource source_{{.n_layer = 1}};
  std::unique_ptr<Backend> host_ = Backend::create(1).value();
  std::unique_ptr<Backend> device_ = Backend::create({.threads = 1, .memory_of_its_own = true}).value();
  std::unique_ptr<DeviceArena> arena_;
  std::set<int32_t> on_host_;
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

TEST_F(ArenaOnADevice, HasTheBytesOfARecordWhereItsProjectionsBegin) {
  ASSERT_TRUE(bring({0, 0}, std::byte{7}));
  std::vector<std::byte> record(4096);
  for (size_t i = 0; i < record.size(); ++i) record[i] = static_cast<std::byte>(i * 31 / 8);
  const auto gate = std::span(record).first(1024), up = std::span(record).subspan(1024, 1024),
             down = std::span(record).subspan(2048);
  const std::optional<int32_t> slot = arena_->bring({0, 3}, gate.data(), up.data(), down.data()).value();
  ASSERT_TRUE(slot);
  ASSERT_TRUE(device_->settle().has_value());
  const SlotLayout& layout = arena_->slots().layout(0);
  EXPECT_EQ(read_back(*slot, layout.gate_offset, 1024), std::vector(gate.begin(), gate.end()));
  EXPECT_EQ(read_back(*slot, layout.up_offset, 1024), std::vector(up.begin(), up.end()));
  EXPECT_EQ(read_back(*slot, layout.down_offset, 2048), std::vector(down.begin(), down.end()));
  EXPECT_EQ(read_back(*arena_->hold({0, 0}), layout.down_offset, 2048),
            std::vector<std::byte>(2048, std::byte{7}));
}

TEST_F(ArenaOnADevice, CountsWhatItDoes) {
  on_host_ = {1, 4};
  for (int32_t expert = 0; expert < 6; ++expert) {
    ASSERT_TRUE(bring({0, expert}, std::byte{1}));
    arena_->release();
  }
  ASSERT_TRUE(arena_->hold({0, 5}));
  const DeviceArena::Figures figures = arena_->figures();
  EXPECT_EQ(figures.copies, 6U);
  EXPECT_EQ(figures.copied_bytes, 6U * 4096);
  EXPECT_EQ(figures.evictions, 2U) << "of the experts 0 and 1";
  EXPECT_EQ(figures.evicted_to_host, 1U);
  EXPECT_EQ(figures.hits, 1U);
  EXPECT_EQ(figures.resident, 4);
}

}  // namespace
}  // namespace odmoe
