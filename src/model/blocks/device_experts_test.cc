#include "model/blocks/device_experts.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>
#include <span>
#include <vector>

namespace odmoe {
namespace {

constexpr int64_t kExpertWidth = 32;
constexpr uint64_t kMatrixBytes = kExpertWidth * kExpertWidth * sizeof(float);
constexpr int64_t kUsedExperts = 2, kBlockTokens = 4;

// Two experts of random weights in the first slots of one window.
class ExpertBlocks : public ::testing::Test {
 protected:
  struct Made {
    std::vector<float> output;
    uint64_t nodes = 0;  // of the graph that made it
  };

  Made compute(int32_t n_slot, bool one_token, std::span<const ExpertPair> pairs) {
    const DeviceSlots slots =
        DeviceSlots::allocate(*device_,
                              {.slot_bytes = 3 * kMatrixBytes, .n_slot = n_slot, .most_in_window = n_slot})
            .value();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> weights(2 * 3 * kMatrixBytes / sizeof(float));
    for (float& value : weights) value = normal(random);
    const auto bytes = std::as_bytes(std::span(weights));
    for (int32_t slot = 0; slot < 2; ++slot) {
      slots.send(*device_, slot,
                 bytes.subspan(static_cast<size_t>(slot) * 3 * kMatrixBytes, 3 * kMatrixBytes));
    }
    EXPECT_TRUE(device_->settle().has_value());
    DeviceLayer layer;
    layer.experts.gate = layer.experts.up =
        layer.experts.down = {.type = GGML_TYPE_F32, .n_in = kExpertWidth, .n_out = kExpertWidth};
    layer.experts.slot_bytes = 3 * kMatrixBytes;
    layer.slots = &slots;
    layer.up_offset = kMatrixBytes;
    layer.down_offset = 2 * kMatrixBytes;

    const ggml_context_ptr context(
        ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    ExpertColumns columns;
    columns.input = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, kExpertWidth, kBlockTokens);
    columns.output =
        ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, kExpertWidth, kUsedExperts * kBlockTokens);
    const DeviceMemory memory = DeviceMemory::allocate(*device_, 1 << 16).value();
    EXPECT_TRUE(memory.place(columns.input, 0) && memory.place(columns.output, 1 << 14));
    std::vector<float> input(kExpertWidth * kBlockTokens);
    for (float& value : input) value = normal(random);
    device_->write(columns.input, 0, std::as_bytes(std::span(input)));

    const uint64_t before = device_->traffic().operations;
    const Status added = one_token ? experts_->add_token(layer, columns, 0, pairs)
                                   : experts_->add_chunk(layer, columns, 0, kBlockTokens, pairs);
    EXPECT_TRUE(added.has_value());
    EXPECT_TRUE(experts_->finish().has_value());
    Made made{.output = std::vector<float>(kExpertWidth * kUsedExperts * kBlockTokens),
              .nodes = device_->traffic().operations - before};
    device_->read(columns.output, 0, std::as_writable_bytes(std::span(made.output)));
    return made;
  }

  std::unique_ptr<Backend> host_ = Backend::create(1).value();
  std::unique_ptr<Backend> device_ = Backend::create({.threads = 1, .memory_of_its_own = true}).value();
  const ModelShape shape_ = [] {
    ModelShape shape;
    shape.n_embd = kExpertWidth;
    shape.n_ff_exp = kExpertWidth;
    shape.router.n_expert = 4;
    shape.router.n_expert_used = kUsedExperts;
    return shape;
  }();
  std::unique_ptr<DeviceExperts> experts_ =
      DeviceExperts::create(*device_, *host_, shape_, kBlockTokens).value();
};

// So that what a block lacks is nobody's row: in two blocks where two experts are all slots.
TEST_F(ExpertBlocks, LeaveASlotToWhatTheyAreFilledUpWith) {
  std::vector<ExpertPair> pairs;
  for (int32_t slot = 0; slot < 2; ++slot) {
    for (int32_t token = 0; token < kBlockTokens; ++token) {
      pairs.push_back({.token = token, .rank = slot, .slot = slot, .expert = slot});
    }
  }
  ASSERT_LT(std::ssize(pairs), DeviceExperts::block_rows(shape_, kBlockTokens));
  const Made wide = compute(3, /*one_token=*/false, pairs);
  const Made narrow = compute(2, /*one_token=*/false, pairs);
  EXPECT_GT(wide.nodes, 0U);
  EXPECT_EQ(narrow.nodes, 2 * wide.nodes);
  EXPECT_EQ(narrow.output, wide.output);
}

TEST_F(ExpertBlocks, OfAllExpertsOfATokenNeedNoSlotMore) {
  constexpr std::array<ExpertPair, 2> kPairs = {
      {{.token = 0, .rank = 0, .slot = 1, .expert = 1}, {.token = 0, .rank = 1, .slot = 0, .expert = 0}}};
  const Made wide = compute(3, /*one_token=*/true, kPairs);
  const Made narrow = compute(2, /*one_token=*/true, kPairs);
  EXPECT_EQ(narrow.nodes, wide.nodes);
  EXPECT_EQ(narrow.output, wide.output);
}

}  // namespace
}  // namespace odmoe
