#include "backend/repacked_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"

namespace odmoe {
namespace {

constexpr int64_t kIn = 512, kOut = 64, kSlots = 5, kUsed = 3;
constexpr std::array kTypes = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q2_K, GGML_TYPE_IQ4_NL,
                               GGML_TYPE_MXFP4};

class RepackedLayouts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (layout_ == nullptr) GTEST_SKIP() << "this ggml has no layout for wider kernels on this processor";
  }
  static ggml_context_ptr context() {
    return ggml_context_ptr(ggml_init({.mem_size = ggml_tensor_overhead() * 16 + ggml_graph_overhead(),
                                       .mem_buffer = nullptr,
                                       .no_alloc = true}));
  }
  static std::vector<std::byte> quantised(ggml_type type, int seed) {
    std::vector<float> values(static_cast<size_t>(kIn * kOut));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = std::sin(static_cast<float>(i + static_cast<size_t>(seed)) * 0.37F) * 0.02F;
    const std::vector<float> importance(static_cast<size_t>(kIn), 1.0F);
    std::vector<std::byte> bytes(ggml_row_size(type, kIn) * kOut);
    ggml_quantize_chunk(type, values.data(), bytes.data(), 0, kOut, kIn, importance.data());
    return bytes;
  }
  // Of ggml, and not always what it wants matrices of dense weights in.
  ggml_backend_buffer_type_t layout_type() const {
    return *std::ranges::find(backend_->extra_buffer_types(), layout_->name(), ggml_backend_buft_name);
  }

  // One token times the experts in kUsed of the slots; `experts` has its memory.
  std::vector<float> product(ggml_context* ctx, ggml_tensor* experts) {
    ggml_tensor* x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, kIn, 1, 1);
    ggml_tensor* ids = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, kUsed, 1);
    ggml_tensor* y = ggml_mul_mat_id(ctx, experts, x, ids);
    const ggml_backend_buffer_ptr memory(
        ggml_backend_buft_alloc_buffer(backend_->buffer_type(), (kIn + kUsed + kOut * kUsed + 64) * 4));
    auto* at = static_cast<std::byte*>(ggml_backend_buffer_get_base(memory.get()));
    for (ggml_tensor* tensor : {x, ids, y}) {
      ggml_backend_tensor_alloc(memory.get(), tensor, at);
      at += (ggml_nbytes(tensor) + 63) / 64 * 64;
    }
    for (size_t i = 0; i < kIn; ++i) host_values<float>(x)[i] = std::cos(static_cast<float>(i));
    for (int32_t i = 0; i < kUsed; ++i) host_values<int32_t>(ids)[static_cast<size_t>(i)] = 2 * i;
    ggml_cgraph* graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, y);
    EXPECT_TRUE(backend_->compute(graph).has_value());
    const auto values = host_values<float>(y);
    return {values.begin(), values.end()};
  }

  std::unique_ptr<Backend> backend_ = Backend::create(2).value();
  std::unique_ptr<RepackedLayout> layout_ = RepackedLayout::create(*backend_);
};

// Slots lie further apart than a matrix is long, as those of an arena do.
TEST_F(RepackedLayouts, ComputeInMemoryOfOursWhatTheyComputeInABufferOfTheirOwn) {
  for (const ggml_type type : kTypes) {
    if (!layout_->takes(type, kIn, kOut)) continue;
    SCOPED_TRACE(ggml_type_name(type));
    const uint64_t bytes = ggml_row_size(type, kIn) * kOut;
    const uint64_t stride = bytes + 4096 - bytes % 32;
    const ggml_context_ptr own = context(), ours = context();
    ggml_tensor* own_experts = ggml_new_tensor_3d(own.get(), type, kIn, kOut, kSlots);
    const ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(layout_type(), kSlots * bytes));
    ggml_backend_tensor_alloc(buffer.get(), own_experts, ggml_backend_buffer_get_base(buffer.get()));
    std::vector<std::byte> all;
    const AlignedBuffer arena = AlignedBuffer::allocate(kSlots * stride).value();
    for (int slot = 0; slot < kSlots; ++slot) {
      const std::vector<std::byte> one = quantised(type, slot);
      all.insert(all.end(), one.begin(), one.end());
      layout_->repack(type, kIn, kOut, one,
                      arena.span().subspan(static_cast<uint64_t>(slot) * stride, bytes));
    }
    ggml_backend_tensor_set(own_experts, all.data(), 0, all.size());
    ggml_tensor* our_experts = ggml_new_tensor_3d(ours.get(), type, kIn, kOut, kSlots);
    our_experts->nb[2] = stride;
    our_experts->nb[3] = stride * kSlots;
    layout_->place(our_experts, arena.data());
    EXPECT_NE(our_experts->extra, nullptr);
    EXPECT_EQ(product(ours.get(), our_experts), product(own.get(), own_experts));
  }
}

// ggml would compute with it as if it were not laid out, without a word.
TEST_F(RepackedLayouts, AreNotKnownToATensorOfABufferOfNoBytes) {
  const ggml_type type =
      *std::ranges::find_if(kTypes, [&](ggml_type t) { return layout_->takes(t, kIn, kOut); });
  const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(layout_type(), 0));
  const ggml_context_ptr ctx = context();
  ggml_tensor* tensor = ggml_new_tensor_3d(ctx.get(), type, kIn, kOut, 1);
  tensor->buffer = empty.get();
  ggml_backend_buffer_init_tensor(empty.get(), tensor);
  EXPECT_EQ(tensor->extra, nullptr);
}

TEST_F(RepackedLayouts, TakeSomeTypesInWholeGroupsOfRows) {
  EXPECT_TRUE(std::ranges::any_of(kTypes, [&](ggml_type type) { return layout_->takes(type, kIn, kOut); }));
  for (const ggml_type type : kTypes) EXPECT_FALSE(layout_->takes(type, kIn, 7)) << ggml_type_name(type);
  EXPECT_FALSE(layout_->takes(GGML_TYPE_F32, kIn, kOut));
}

TEST_F(RepackedLayouts, AreNotTheFilesOwn) {
  for (const ggml_type type : kTypes) {
    if (!layout_->takes(type, kIn, kOut)) continue;
    const std::vector<std::byte> plain = quantised(type, 1);
    std::vector<std::byte> laid_out(plain.size());
    layout_->repack(type, kIn, kOut, plain, laid_out);
    EXPECT_NE(laid_out, plain) << ggml_type_name(type);
  }
}

TEST_F(RepackedLayouts, HaveAFingerprintForEachTypeAndShape) {
  std::vector<uint64_t> seen;
  for (const ggml_type type : kTypes) {
    for (const int64_t rows : {kOut, 2 * kOut}) {
      if (!layout_->takes(type, kIn, rows)) continue;
      seen.push_back(layout_->fingerprint(type, kIn, rows));
      EXPECT_EQ(layout_->fingerprint(type, kIn, rows), seen.back());
    }
  }
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

}  // namespace
}  // namespace odmoe
