#include "backend/device_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "backend/exchange.h"

namespace odmoe {
namespace {

class DeviceMemories : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Backend> backend_ =
      Backend::create({.threads = 1, .memory_of_its_own = GetParam()}).value();
  ggml_context_ptr context_{
      ggml_init({.mem_size = ggml_tensor_overhead() * 4, .mem_buffer = nullptr, .no_alloc = true})};
  ggml_tensor* matrix(int64_t rows, int64_t columns) {
    return ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, rows, columns);
  }
};

TEST_P(DeviceMemories, IsZeroAtFirstAndWhenCleared) {
  auto memory = DeviceMemory::allocate(*backend_, 4096).value();
  EXPECT_EQ(memory.size(), 4096U);
  EXPECT_EQ(memory.host().empty(), GetParam());
  ggml_tensor* tensor = matrix(8, 4);
  ASSERT_TRUE(memory.place(tensor, 128));
  std::array<float, 32> values{};
  const auto bytes = std::as_writable_bytes(std::span(values));
  values.fill(1);
  read_tensor(tensor, 0, bytes);
  EXPECT_EQ(values, (std::array<float, 32>{}));
  values.fill(2);
  write_tensor(tensor, 0, bytes);
  memory.clear(*backend_);
  read_tensor(tensor, 0, bytes);
  EXPECT_EQ(values, (std::array<float, 32>{}));
}

TEST_P(DeviceMemories, WhatIsPlacedWithinATensorIsAPartOfIt) {
  auto memory = DeviceMemory::allocate(*backend_, 4096).value();
  ggml_tensor *whole = matrix(4, 3), *column = matrix(4, 1);
  ASSERT_TRUE(memory.place(whole, 0));
  place_within(whole, column, whole->nb[1]);
  const std::array<float, 4> written = {1, 2, 3, 4};
  write_tensor(column, 0, std::as_bytes(std::span(written)));
  std::array<float, 4> read{};
  read_tensor(whole, whole->nb[1], std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read, written);
}

INSTANTIATE_TEST_SUITE_P(OursAndTheDevices, DeviceMemories, ::testing::Bool());

TEST(Exchange, IsOneMatrixWhereTheDeviceComputesOnHostMemoryAndTwoElsewhere) {
  const auto backend = Backend::create({.threads = 1}).value();
  const auto memory = DeviceMemory::allocate(*backend, 4096).value();
  const ggml_context_ptr context(
      ggml_init({.mem_size = ggml_tensor_overhead() * 2, .mem_buffer = nullptr, .no_alloc = true}));
  ggml_tensor* a = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, 2, 3);
  ggml_tensor* b = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, 2, 3);
  ASSERT_TRUE(memory.place(a, 0) && memory.place(b, 1024));
  const Exchange<float> one(*backend, a, a), two(*backend, a, b);
  one.columns(0, 3)[3] = 5;
  EXPECT_EQ(two.columns(1, 1)[1], 0);
  two.fetch(0, 1);
  EXPECT_EQ(two.columns(1, 1)[1], 0);
  two.fetch(1, 1);
  EXPECT_EQ(two.columns(1, 1)[1], 5);
  two.columns(2, 1)[0] = 7;  // the processor takes it at once
  two.send(1, 1);
  EXPECT_EQ(one.columns(2, 1)[0], 0);
  two.send(2, 1);
  EXPECT_EQ(one.columns(2, 1)[0], 7);
}

}  // namespace
}  // namespace odmoe
