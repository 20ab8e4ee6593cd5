#include "model/blocks/exact_columns.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "backend/tensor_memory.h"
#include "expert_types.h"
#include "gguf_writer.h"
#include "model/graph.h"

namespace odmoe {
namespace {

constexpr int64_t kWide = 512;
constexpr int64_t kHigh = 96;
constexpr int32_t kMostColumns = 16;

// A matrix as a converter makes it, in the layout that dense weights have, and columns for it.
class DenseProduct {
 public:
  DenseProduct(Backend& backend, ggml_type type, ggml_backend_buffer_type_t layout)
      : backend_(&backend),
        graph_(8),
        context_(
            ggml_init({.mem_size = ggml_tensor_overhead() * 8, .mem_buffer = nullptr, .no_alloc = true})) {
    std::mt19937 random(static_cast<uint32_t>(type) + 7);
    std::normal_distribution<float> normal;
    ggml_context* ctx = context_.get();
    weights_ = ggml_new_tensor_2d(ctx, type, kWide, kHigh);
    weights_buffer_.reset(
        ggml_backend_alloc_ctx_tensors_from_buft(ctx, layout != nullptr ? layout : backend.buffer_type()));
    std::vector<float> values(static_cast<size_t>(ggml_nelements(weights_)));
    for (float& value : values) value = normal(random);
    std::vector<std::byte> bytes(ggml_nbytes(weights_));
    if (type == GGML_TYPE_F32) {
      std::memcpy(bytes.data(), values.data(), bytes.size());
    } else {
      testing::GgufWriter::quantize(type, values, kWide, bytes);
    }
    write_tensor(weights_, 0, bytes);
    input_ = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kWide, kMostColumns);
    output_ = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kHigh, kMostColumns);
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx, backend.buffer_type()));
    std::ranges::generate(host_values<float>(input_), [&] { return normal(random); });
  }

  const ggml_tensor* weights() const { return weights_; }

  // The first n columns, in one call or each in a call of its own.
  std::vector<float> compute(int64_t n, bool alone) {
    for (int64_t first = 0; first < n; first += alone ? 1 : n) multiply(first, alone ? 1 : n);
    const std::span<float> values = host_values<float>(output_).first(static_cast<size_t>(n * kHigh));
    return {values.begin(), values.end()};
  }

 private:
  void multiply(int64_t first, int64_t n) {
    graph_.reset();
    ggml_context* ctx = graph_.context();
    const auto at = static_cast<size_t>(first);
    ggml_tensor* x = ggml_view_2d(ctx, input_, kWide, n, input_->nb[1], input_->nb[1] * at);
    ggml_tensor* y = ggml_mul_mat(ctx, weights_, x);
    place_within(output_, y, output_->nb[1] * at);
    graph_.expand(y);
    ASSERT_TRUE(backend_->compute(graph_.graph()).has_value());
  }

  Backend* backend_;
  Graph graph_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr weights_buffer_, buffer_;
  ggml_tensor *weights_ = nullptr, *input_ = nullptr, *output_ = nullptr;
};

// Of other weights than the trial's own, so that it is known to tell of all of them.
TEST(ExactColumns, TheNumberIsTheLargestUpToWhichEveryColumnGetsTheBitsThatItGetsAloneInEveryLayout) {
  const auto backend = Backend::create(2).value();
  std::vector<ggml_backend_buffer_type_t> layouts = {nullptr};
  layouts.insert(layouts.end(), backend->extra_buffer_types().begin(), backend->extra_buffer_types().end());
  for (const ggml_type type : testing::expert_types()) {
    const auto preferred = backend->matrix_buffer_type(type, kWide, kHigh);
    for (const auto layout : layouts) {
      if (layout != nullptr && layout != preferred) continue;
      SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << (layout == nullptr ? "" : ", laid out"));
      DenseProduct product(*backend, type, layout);
      const std::vector<float> wanted = product.compute(kMostColumns, true);
      int32_t found = 1;
      for (bool same = true; same && found < kMostColumns; found += same ? 1 : 0) {
        const std::vector<float> got = product.compute(found + 1, false);
        same = std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)) == 0;
      }
      EXPECT_EQ(exact_columns(*backend, product.weights(), kMostColumns).value(), found);
    }
  }
}

TEST(ExactColumns, OneColumnNeedsNoTrial) {
  const auto backend = Backend::create(1).value();
  DenseProduct product(*backend, GGML_TYPE_Q4_K, nullptr);
  EXPECT_EQ(exact_columns(*backend, product.weights(), 1).value(), 1);
}

}  // namespace
}  // namespace odmoe
