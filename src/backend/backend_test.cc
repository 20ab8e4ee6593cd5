#include "backend/backend.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "backend/tensor_memory.h"

namespace odmoe {
namespace {

constexpr std::array kLaidOutTypes = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0,   GGML_TYPE_Q2_K,
                                      GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K,   GGML_TYPE_IQ4_NL,
                                      GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_IQ4_XS, GGML_TYPE_MXFP4};

std::vector<std::byte> wave(ggml_type type, int64_t n_in, int64_t n_row) {
  std::vector<float> values(static_cast<size_t>(n_in * n_row));
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 0.37F) * 0.02F;
  const std::vector<float> importance(static_cast<size_t>(n_in), 1.0F);
  std::vector<std::byte> bytes(ggml_row_size(type, n_in) * static_cast<size_t>(n_row));
  ggml_quantize_chunk(type, values.data(), bytes.data(), 0, n_row, n_in, importance.data());
  return bytes;
}

// A matrix in a buffer of some type, and what becomes of operands.
class MatrixProduct {
 public:
  MatrixProduct(Backend& backend, ggml_backend_buffer_type_t where, ggml_type type, int64_t n_in,
                int64_t n_out)
      : backend_(backend), matrix_(ggml_new_tensor_2d(context_.get(), type, n_in, n_out)) {
    memory_.emplace_back(
        ggml_backend_buft_alloc_buffer(where, ggml_backend_buft_get_alloc_size(where, matrix_)));
    ggml_backend_tensor_alloc(memory_[0].get(), matrix_, ggml_backend_buffer_get_base(memory_[0].get()));
    const std::vector<std::byte> bytes = wave(type, n_in, n_out);
    ggml_backend_tensor_set(matrix_, bytes.data(), 0, bytes.size());
  }

  ggml_tensor* of(ggml_type type, int64_t n_row) {
    ggml_tensor* x = at_home(ggml_new_tensor_2d(context_.get(), type, matrix_->ne[0], n_row));
    if (type == GGML_TYPE_F32) {
      const std::span<float> values = host_values<float>(x);
      for (size_t i = 0; i < values.size(); ++i) values[i] = std::cos(static_cast<float>(i) * 0.11F);
    }
    return x;
  }

  // What was where the result is written must not matter.
  Result<std::vector<float>> with(ggml_tensor* x) {
    ggml_tensor* y = at_home(ggml_mul_mat(context_.get(), matrix_, x));
    const std::span<float> values = host_values<float>(y);
    std::ranges::fill(values, 1e6F);
    ggml_cgraph* graph = ggml_new_graph(context_.get());
    ggml_build_forward_expand(graph, y);
    ODMOE_RETURN_IF_ERROR(backend_.compute(graph));
    return std::vector<float>(values.begin(), values.end());
  }

 private:
  ggml_tensor* at_home(ggml_tensor* tensor) {
    memory_.emplace_back(ggml_backend_buft_alloc_buffer(backend_.buffer_type(), ggml_nbytes(tensor)));
    ggml_backend_tensor_alloc(memory_.back().get(), tensor,
                              ggml_backend_buffer_get_base(memory_.back().get()));
    return tensor;
  }

  Backend& backend_;
  ggml_context_ptr context_{ggml_init({.mem_size = ggml_tensor_overhead() * 64 + 8 * ggml_graph_overhead(),
                                       .mem_buffer = nullptr,
                                       .no_alloc = true})};
  ggml_tensor* matrix_;
  std::vector<ggml_backend_buffer_ptr> memory_;
};

TEST(LaidOutMatrices, AreMultipliedLikePlainOnes) {
  const auto backend = Backend::create(2).value();
  for (const ggml_type type : kLaidOutTypes) {
    for (const int64_t n_in : {32, 64, 256, 768}) {
      if (n_in % ggml_blck_size(type) != 0) continue;
      const auto where = backend->matrix_buffer_type(type, n_in, 64);
      if (where == nullptr) continue;
      MatrixProduct laid_out(*backend, where, type, n_in, 64);
      MatrixProduct plain(*backend, backend->buffer_type(), type, n_in, 64);
      for (const int64_t n_row : {1, 2, 16, 31, 32, 33, 70}) {
        SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << " of " << n_in << " by " << n_row);
        const std::vector<float> got = laid_out.with(laid_out.of(GGML_TYPE_F32, n_row)).value();
        const std::vector<float> wanted = plain.with(plain.of(GGML_TYPE_F32, n_row)).value();
        double error = 0, norm = 0;
        for (size_t i = 0; i < got.size(); ++i) {
          error += std::pow(got[i] - wanted[i], 2);
          norm += std::pow(wanted[i], 2);
        }
        EXPECT_LE(error, 4e-4 * norm);  // of rounding the operand, as each kernel does it
      }
    }
  }
}

// ggml would compute something, or end the process.
TEST(LaidOutMatrices, AreNotMultipliedByWhatTheirKernelsDoNotTake) {
  const auto backend = Backend::create(2).value();
  bool any = false;
  for (const ggml_type type : kLaidOutTypes) {
    const auto where = backend->matrix_buffer_type(type, 256, 64);
    if (where == nullptr) continue;
    any = true;
    MatrixProduct product(*backend, where, type, 256, 64);
    const auto result = product.with(product.of(GGML_TYPE_F16, 3));
    ASSERT_FALSE(result.has_value()) << ggml_type_name(type);
    EXPECT_EQ(result.error().kind, ErrorKind::kUnsupported);
  }
  if (!any) GTEST_SKIP() << "this ggml has no layout for wider kernels on this processor";
}

TEST(Devices, TheProcessorIsTheFirstAndReadsHostMemory) {
  const std::vector<DeviceInfo> devices = found_devices();
  ASSERT_FALSE(devices.empty());
  EXPECT_EQ(devices.front().kind, DeviceInfo::Kind::kCpu);
  EXPECT_TRUE(devices.front().reads_host_memory);
  for (const char* name : {"", "cpu", "CPU"}) {
    EXPECT_EQ(Backend::create({.threads = 1, .device = name}).value()->name(), devices.front().name) << name;
  }
}

// A microsecond later each time that it is asked.
class CountingClock final : public Clock {
 public:
  int64_t now_us() const override { return ++now_us_; }

 private:
  mutable int64_t now_us_ = 0;
};

// A CPU that is as if it had memory of its own, with a graph that doubles four numbers.
class OwnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    ggml_backend_tensor_alloc(memory_.get(), sum_, ggml_backend_buffer_get_base(memory_.get()));
    ggml_build_forward_expand(graph_, sum_);
  }
  void expect(std::span<const float> values, float wanted) {
    for (const float value : values) EXPECT_EQ(value, wanted);
  }

  bool logs_an_error_ = false;
  const CountingClock clock_;
  std::unique_ptr<Backend> backend_ =
      Backend::create({.threads = 1,
                       .memory_of_its_own = true,
                       .fault = [this]() -> Status {
                         if (logs_an_error_) {
                           EXPECT_EQ(ggml_backend_load("/there/is/no/such/backend"), nullptr);
                         }
                         return {};
                       },
                       .clock = &clock_})
          .value();
  ggml_context_ptr context_{ggml_init({.mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead(),
                                       .mem_buffer = nullptr,
                                       .no_alloc = true})};
  ggml_tensor* number_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, 4);
  ggml_backend_buffer_ptr memory_{ggml_backend_buft_alloc_buffer(backend_->buffer_type(), 4096)};
  ggml_backend_buffer_ptr number_memory_{ggml_backend_buft_alloc_buffer(backend_->buffer_type(), 4096)};
  ggml_tensor* sum_ = [this] {
    ggml_backend_tensor_alloc(number_memory_.get(), number_,
                              ggml_backend_buffer_get_base(number_memory_.get()));
    return ggml_add(context_.get(), number_, number_);
  }();
  ggml_cgraph* graph_ = ggml_new_graph(context_.get());
};

TEST_F(OwnDevice, WhatIsFetchedIsWhatWasThereWhenItWasAskedFor) {
  std::array<float, 4> numbers{1, 1, 1, 1}, first{}, second{};
  backend_->send(number_, 0, std::as_bytes(std::span(numbers)));
  ASSERT_TRUE(backend_->launch(graph_).has_value());
  backend_->queue_fetch(sum_, 0, std::as_writable_bytes(std::span(first)));
  ASSERT_TRUE(backend_->settle().has_value());
  expect(first, 2);
  ASSERT_TRUE(backend_->launch(graph_).has_value());
  first.fill(0);
  backend_->queue_fetch(sum_, 0, std::as_writable_bytes(std::span(first)));
  const std::array<float, 4> others{3, 3, 3, 3};
  backend_->send(number_, 0, std::as_bytes(std::span(others)));
  ASSERT_TRUE(backend_->launch(graph_).has_value());
  backend_->queue_fetch(sum_, 0, std::as_writable_bytes(std::span(second)));
  ASSERT_TRUE(backend_->settle().has_value());
  expect(first, 2);
  expect(second, 6);
}

TEST_F(OwnDevice, CountsWhatGoesToAndFroAndTheHostsTimeForIt) {
  std::array<float, 4> numbers{1, 1, 1, 1};
  backend_->send(number_, 0, std::as_bytes(std::span(numbers)));
  ASSERT_TRUE(backend_->launch(graph_).has_value());
  backend_->queue_fetch(sum_, 0, std::as_writable_bytes(std::span(numbers)));
  ASSERT_TRUE(backend_->settle().has_value());
  const DeviceTraffic first = backend_->traffic();
  const DeviceTraffic wanted = {.graphs = 1,
                                .operations = 1,
                                .waits = 1,
                                .sent_bytes = 16,
                                .fetched_bytes = 16,
                                .exchange_us = 1,
                                .launch_us = 1,
                                .wait_us = 1};
  EXPECT_EQ(first, wanted);
  backend_->fetch(sum_, 4, std::as_writable_bytes(std::span(numbers).first(2)));
  EXPECT_EQ(backend_->traffic().since(first), (DeviceTraffic{.waits = 1, .fetched_bytes = 8, .wait_us = 1}));
  backend_->write(number_, 0, std::as_bytes(std::span(numbers)));
  DeviceTraffic sum = first;
  sum += backend_->traffic().since(first);
  EXPECT_EQ(sum, backend_->traffic()) << "what is loaded is none of it";
}

// As ggml's Metal does of a graph that did not end well.
TEST_F(OwnDevice, AnErrorThatIsOnlyLoggedIsALostDevice) {
  ASSERT_TRUE(backend_->compute(graph_).has_value());
  logs_an_error_ = true;
  const Status status = backend_->compute(graph_);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kDeviceLost);
  EXPECT_TRUE(status.error().message.contains("failed to load")) << status.error().message;
  logs_an_error_ = false;
  EXPECT_EQ(backend_->compute(graph_).error().message, status.error().message);
  EXPECT_EQ(backend_->condition().error().message, status.error().message);
}

TEST(Devices, ThatAreNotThereAreRefusedWithThoseThatAre) {
  const auto backend = Backend::create({.device = "Vulkan77"});
  ASSERT_FALSE(backend.has_value());
  EXPECT_EQ(backend.error().kind, ErrorKind::kUsage);
  EXPECT_TRUE(backend.error().message.contains("there is no device Vulkan77; ggml finds CPU ("))
      << backend.error().message;
}

}  // namespace
}  // namespace odmoe
