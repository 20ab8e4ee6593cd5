#include "model/blocks/exact_rows.h"

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

constexpr int64_t kIn = 256;
constexpr int64_t kOut = 40;
constexpr int64_t kExperts = 3;
constexpr int32_t kMost = 24;

// Three experts' weights, quantised as a converter does it, and rows for each of them.
class Product {
 public:
  Product(Backend& backend, ggml_type type, uint32_t seed)
      : backend_(&backend),
        graph_(8),
        context_(
            ggml_init({.mem_size = ggml_tensor_overhead() * 8, .mem_buffer = nullptr, .no_alloc = true})) {
    ggml_context* ctx = context_.get();
    weights_ = ggml_new_tensor_3d(ctx, type, kIn, kOut, kExperts);
    input_ = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, kIn, 1, kExperts * kMost);
    ids_ = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, kExperts * kMost);
    output_ = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, kOut, 1, kExperts * kMost);
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx, backend.buffer_type()));
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(ggml_nelements(weights_)));
    for (float& value : values) value = normal(random);
    if (type == GGML_TYPE_F32) {
      std::memcpy(host_address(weights_), values.data(), ggml_nbytes(weights_));
    } else {
      testing::GgufWriter::quantize(type, values, kIn, host_bytes(weights_));
    }
    std::generate_n(host_values<float>(input_).data(), ggml_nelements(input_),
                    [&] { return normal(random); });
  }

  // `rows` rows of each expert in one call, or each row in a call of its own.
  std::vector<float> compute(int32_t rows, bool alone) {
    const int64_t n = kExperts * rows;
    for (int64_t i = 0; i < n; ++i)
      host_values<int32_t>(ids_)[static_cast<size_t>(i)] = static_cast<int32_t>(i % kExperts);
    for (int64_t first = 0; first < n; first += alone ? 1 : n) multiply(first, alone ? 1 : n);
    const auto* values = host_values<float>(output_).data();
    return {values, values + n * kOut};
  }

 private:
  void multiply(int64_t first, int64_t n) {
    graph_.reset();
    ggml_context* ctx = graph_.context();
    const auto at = static_cast<size_t>(first);
    ggml_tensor* x = ggml_view_3d(ctx, input_, kIn, 1, n, input_->nb[1], input_->nb[2], input_->nb[2] * at);
    ggml_tensor* ids = ggml_view_2d(ctx, ids_, 1, n, ids_->nb[1], ids_->nb[1] * at);
    ggml_tensor* y = ggml_mul_mat_id(ctx, weights_, x, ids);
    place_within(output_, y, output_->nb[2] * at);
    graph_.expand(y);
    ASSERT_TRUE(backend_->compute(graph_.graph()).has_value());
  }

  Backend* backend_;
  Graph graph_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_;
  ggml_tensor *weights_ = nullptr, *input_ = nullptr, *ids_ = nullptr, *output_ = nullptr;
};

// Of other weights than the trial's own, so that it is known to tell of all of them.
TEST(ExactRows, TheNumberIsTheLargestUpToWhichEveryRowOfEachExpertGetsTheBitsThatItGetsAlone) {
  for (const int threads : {1, 2}) {
    const auto backend = Backend::create(threads).value();
    for (const ggml_type type : testing::expert_types()) {
      SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << ", " << threads << " threads");
      Product product(*backend, type, static_cast<uint32_t>(type) + 100);
      const std::vector<float> wanted = product.compute(kMost, true);
      int32_t found = 1;
      for (bool same = true; same && found < kMost; found += same ? 1 : 0) {
        const std::vector<float> got = product.compute(found + 1, false);
        same = std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)) == 0;
      }
      EXPECT_EQ(exact_rows(*backend, type, kIn, kOut, kMost).value(), found);
    }
  }
}

TEST(ExactRows, OneRowNeedsNoTrial) {
  const auto backend = Backend::create(1).value();
  EXPECT_EQ(exact_rows(*backend, GGML_TYPE_Q4_K, 256, 16, 1).value(), 1);
}

TEST(ExactRows, ExpertsOfAnyShapeCanBeTried) {
  const auto backend = Backend::create(2).value();
  for (const int64_t n_in : {int64_t{256}, int64_t{7168}}) {
    for (const int64_t n_out : {int64_t{1}, int64_t{63}, int64_t{64}, int64_t{2049}}) {
      const int32_t rows = exact_rows(*backend, GGML_TYPE_Q6_K, n_in, n_out, 64).value();
      EXPECT_GE(rows, 1);
      EXPECT_LE(rows, 64);
    }
  }
}

}  // namespace
}  // namespace odmoe
