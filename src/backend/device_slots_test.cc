#include "backend/device_slots.h"

#include <gtest/gtest.h>

#include <array>

#include "backend/tensor_memory.h"

namespace odmoe {
namespace {

constexpr uint64_t kSlotBytes = 8192 + 64;

class SlotsOnADevice : public ::testing::Test {
 protected:
  // The slots of a window, a byte of each.
  std::array<std::byte, 3> first_bytes(const DeviceSlots& slots, int32_t window) {
    const ggml_context_ptr context(
        ggml_init({.mem_size = ggml_tensor_overhead() * 2, .mem_buffer = nullptr, .no_alloc = true}));
    const auto n_slot = static_cast<size_t>(slots.n_slot(window));
    ggml_tensor* tensor = ggml_new_tensor_3d(context.get(), GGML_TYPE_I8, 64, 4, slots.n_slot(window));
    tensor->nb[2] = kSlotBytes;
    tensor->nb[3] = kSlotBytes * n_slot;
    EXPECT_TRUE(slots.place(tensor, window, 64));
    std::array<std::byte, 3> bytes{};
    for (size_t slot = 0; slot < n_slot; ++slot) {
      read_tensor(tensor, slot * kSlotBytes, std::span(bytes).subspan(slot, 1));
    }
    return bytes;
  }
  std::unique_ptr<Backend> device_ = Backend::create({.threads = 1, .memory_of_its_own = true}).value();
  const DeviceSlots::Shape shape_{.slot_bytes = kSlotBytes, .n_slot = 8, .most_in_window = 3};
};

TEST_F(SlotsOnADevice, AreInWindowsOfAsManyAsItTakes) {
  const auto slots = DeviceSlots::allocate(*device_, shape_).value();
  ASSERT_EQ(slots.n_window(), 3);
  EXPECT_EQ(slots.n_slot(0), 3);
  EXPECT_EQ(slots.n_slot(2), 2);
  EXPECT_EQ(slots.first_slot(2), 6);
  EXPECT_EQ(slots.window_of(5), 1);
  EXPECT_EQ(slots.window_of(6), 2);
}

TEST_F(SlotsOnADevice, AreNeverAloneInAWindowWhereThatCanBe) {
  DeviceSlots::Shape shape = shape_;
  shape.n_slot = 10;
  EXPECT_EQ(DeviceSlots::slots_in_window(*device_, shape), 2) << "of threes one would be left";
  shape.n_slot = 7;
  EXPECT_EQ(DeviceSlots::slots_in_window(*device_, shape), 3) << "of twos too";
  shape.n_slot = 2;
  EXPECT_EQ(DeviceSlots::slots_in_window(*device_, shape), 2);
  shape.most_in_window = 1;
  EXPECT_EQ(DeviceSlots::slots_in_window(*device_, shape), 1);
  shape.most_in_window = 0;
  EXPECT_EQ(DeviceSlots::slots_in_window(*device_, shape), 0);
}

TEST_F(SlotsOnADevice, AreThoseOfTheHostInPlace) {
  const auto memory = AlignedBuffer::allocate(4096 + 8 * kSlotBytes).value();
  const auto slots = DeviceSlots::over(*device_, memory.span(), 4096, shape_).value();
  for (size_t slot = 0; slot < 8; ++slot) {
    memory.data()[4096 + slot * kSlotBytes + 64] = static_cast<std::byte>(slot + 1);
  }
  EXPECT_EQ(first_bytes(slots, 1), (std::array{std::byte{4}, std::byte{5}, std::byte{6}}));
  EXPECT_EQ(first_bytes(slots, 2), (std::array{std::byte{7}, std::byte{8}, std::byte{0}}));
}

TEST_F(SlotsOnADevice, GetWhatIsSentToThem) {
  const auto slots = DeviceSlots::allocate(*device_, shape_).value();
  std::array<std::byte, 128> sent{};
  sent[64] = std::byte{9};
  slots.send(*device_, 4, sent);
  ASSERT_TRUE(device_->settle().has_value());
  EXPECT_EQ(first_bytes(slots, 1), (std::array{std::byte{0}, std::byte{9}, std::byte{0}}));
}

}  // namespace
}  // namespace odmoe
