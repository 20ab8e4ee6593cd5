#include "model/blocks/experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"
#include "gguf_writer.h"
#include "model/blocks/trial_weights.h"

namespace odmoe {
namespace {

constexpr int64_t kLaidOutSide = 256;  // of an expert's three matrices
constexpr int32_t kManyExperts = 40, kChosenExperts = 4;
constexpr size_t kMatrices = 7;  // which experts have in turns, so that neighbours differ
constexpr int32_t kChunkTokens = 60;

// A chunk's tokens, and experts laid out for this processor's kernels, of each type that it has a layout for.
class LaidOutExperts : public ::testing::TestWithParam<ggml_type> {
 protected:
  void SetUp() override {
    if (layout_ == nullptr || !layout_->takes(GetParam(), kLaidOutSide, kLaidOutSide)) {
      GTEST_SKIP() << "this ggml lays out no " << ggml_type_name(GetParam()) << " on this processor";
    }
    const uint64_t matrix_bytes = ggml_row_size(GetParam(), kLaidOutSide) * kLaidOutSide;
    std::mt19937 random(1);
    plain_ = AlignedBuffer::allocate(3 * matrix_bytes * kManyExperts).value();
    laid_out_ = AlignedBuffer::allocate(plain_.span().size()).value();
    for (size_t i = 0; i < 3 * kManyExperts; ++i) {
      const auto matrix = plain_.span().subspan(i * matrix_bytes, matrix_bytes);
      if (i >= kMatrices) {
        std::ranges::copy(plain_.span().subspan(i % kMatrices * matrix_bytes, matrix_bytes), matrix.begin());
      } else {
        std::vector<float> values(kLaidOutSide * kLaidOutSide);
        std::ranges::generate(values, [&] { return uniform(random); });
        testing::GgufWriter::quantize(GetParam(), values, kLaidOutSide, matrix);
      }
      layout_->repack(GetParam(), kLaidOutSide, kLaidOutSide, matrix,
                      laid_out_.span().subspan(i * matrix_bytes, matrix_bytes));
    }
    activations_.reset(ggml_backend_alloc_ctx_tensors_from_buft(columns_context(), backend_->buffer_type()));
    std::ranges::generate(host_values<float>(columns_.input), [&] { return uniform(random); });
    choose(random);
  }

  // The experts' pairs, those of one expert in the tokens' order.
  std::vector<ExpertPair> pairs_of(std::span<const int32_t> experts) const {
    std::vector<ExpertPair> pairs;
    for (const int32_t expert : experts)
      std::ranges::copy(by_expert_[static_cast<size_t>(expert)], std::back_inserter(pairs));
    return pairs;
  }

  // What the experts make of the whole chunk, `together` of them in a call.
  std::vector<float> compute(std::span<const int32_t> experts, size_t together, bool laid_out = true) {
    AlignedBuffer& memory = laid_out ? laid_out_ : plain_;
    const uint64_t matrix_bytes = ggml_row_size(GetParam(), kLaidOutSide) * kLaidOutSide;
    LayerExperts layer;
    for (ExpertMatrix* matrix : {&layer.gate, &layer.up, &layer.down}) {
      const uint64_t offset = matrix == &layer.gate ? 0
                              : matrix == &layer.up ? matrix_bytes
                                                    : 2 * matrix_bytes;
      *matrix = {.type = GetParam(),
                 .n_in = kLaidOutSide,
                 .n_out = kLaidOutSide,
                 .slot0 = memory.data() + offset,
                 .layout = laid_out ? layout_.get() : nullptr};
    }
    layer.slot_bytes = 3 * matrix_bytes;
    const ggml_backend_buffer_ptr arena = backend_->wrap(memory.span());
    std::ranges::fill(host_values<float>(columns_.output), 0.0F);
    for (; !experts.empty(); experts = experts.subspan(std::min(together, experts.size()))) {
      const std::vector<ExpertPair> pairs = pairs_of(experts.first(std::min(together, experts.size())));
      EXPECT_TRUE(compute_->run(layer, arena.get(), columns_, kChunkTokens, pairs).has_value());
    }
    const auto output = host_values<float>(columns_.output);
    return {output.begin(), output.end()};
  }

  std::unique_ptr<Backend> backend_ = Backend::create(2).value();
  std::unique_ptr<RepackedLayout> layout_ = RepackedLayout::create(*backend_);
  std::vector<std::vector<ExpertPair>> by_expert_;
  ExpertColumns columns_;

 private:
  ggml_context* columns_context() {
    columns_.input = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, kLaidOutSide, kChunkTokens);
    columns_.output =
        ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, kLaidOutSide, kChosenExperts * kChunkTokens);
    return context_.get();
  }

  // Some experts are chosen by most tokens, some by one.
  void choose(std::mt19937& random) {
    by_expert_.resize(kManyExperts);
    std::vector<double> likely(kManyExperts);
    for (size_t i = 0; i < likely.size(); ++i) likely[i] = 1.0 / static_cast<double>(i + 1);
    for (int32_t token = 0; token < kChunkTokens; ++token) {
      std::vector<double> left = likely;
      for (int32_t rank = 0; rank < kChosenExperts; ++rank) {
        const int32_t expert = std::discrete_distribution<int32_t>(left.begin(), left.end())(random);
        left[static_cast<size_t>(expert)] = 0;
        by_expert_[static_cast<size_t>(expert)].push_back(
            {.token = token, .rank = rank, .slot = kManyExperts - 1 - expert, .expert = expert});
      }
    }
  }

  AlignedBuffer plain_, laid_out_;
  ggml_context_ptr context_{
      ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true})};
  ggml_backend_buffer_ptr activations_;
  const ModelShape shape_ = [] {
    ModelShape shape;
    shape.n_embd = shape.n_ff_exp = kLaidOutSide;
    shape.router.n_expert = kManyExperts;
    shape.router.n_expert_used = kChosenExperts;
    return shape;
  }();
  std::unique_ptr<ExpertCompute> compute_ = ExpertCompute::create(*backend_, shape_, kChunkTokens).value();
};

std::vector<int32_t> every_expert() {
  std::vector<int32_t> experts(kManyExperts);
  std::iota(experts.begin(), experts.end(), 0);
  return experts;
}

TEST_P(LaidOutExperts, GiveAChunkTheSameBitsInWhateverCallsTheyAre) {
  std::vector<int32_t> experts = every_expert();
  const auto has_rows = [&](size_t least, size_t most) {
    return std::ranges::any_of(by_expert_,
                               [&](const auto& p) { return p.size() >= least && p.size() <= most; });
  };
  ASSERT_TRUE(has_rows(1, ExpertCompute::kLeastProductRows - 1));
  ASSERT_TRUE(has_rows(ExpertCompute::kLeastProductRows, 2 * ExpertCompute::kLeastProductRows));
  ASSERT_TRUE(has_rows(16, kChunkTokens));
  std::erase_if(experts, [&](int32_t e) { return by_expert_[static_cast<size_t>(e)].empty(); });
  const std::vector<float> wanted = compute(experts, experts.size());
  for (const size_t together : {1, 3, 16}) {
    std::ranges::reverse(experts);
    EXPECT_EQ(compute(experts, together), wanted) << together << " experts in a call";
  }
}

TEST_P(LaidOutExperts, AreCloseToWhatTheyWereLaidOutFrom) {
  std::vector<int32_t> experts = every_expert();
  std::erase_if(experts, [&](int32_t e) { return by_expert_[static_cast<size_t>(e)].empty(); });
  const std::vector<float> got = compute(experts, experts.size());
  const std::vector<float> wanted = compute(experts, experts.size(), /*laid_out=*/false);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    difference += (got[i] - wanted[i]) * (got[i] - wanted[i]);
    norm += wanted[i] * wanted[i];
  }
  ASSERT_GT(norm, 0);
  EXPECT_LE(difference, 1e-3 * norm);
}

INSTANTIATE_TEST_SUITE_P(Types, LaidOutExperts,
                         ::testing::Values(GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q2_K, GGML_TYPE_IQ4_NL,
                                           GGML_TYPE_MXFP4),
                         [](const auto& type) { return std::string(ggml_type_name(type.param)); });

}  // namespace
}  // namespace odmoe
