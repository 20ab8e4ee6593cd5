#include "predict/shadow_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "predict/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

// Values between -1 and 1, the same on every machine.
Vector spread_values(size_t n, uint32_t seed) {
  Vector v(n);
  for (float& x : v) {
    seed = seed * 1664525 + 1013904223;
    x = static_cast<float>(static_cast<int32_t>(seed >> 8U) - (1 << 23)) / static_cast<float>(1 << 23);
  }
  return v;
}

void add(Vector& y, const Vector& x) {
  for (size_t i = 0; i < y.size(); ++i) y[i] += x[i];
}

void normalise(Vector& x, const Vector& weight, const Vector& bias) {
  float mean = 0, variance = 0;
  for (const float v : x) mean += v / static_cast<float>(x.size());
  for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<float>(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = (x[i] - mean) / std::sqrt(variance + 1e-5F) * weight[i] + bias[i];
  }
}

void silu(Vector& x) {
  for (float& v : x) v /= 1 + std::exp(-v);
}

constexpr int32_t kIn = 64, kHidden = 32, kRank = 32, kOut = 12;

// Two layers that share a block but for its bias and the scale of its input, with a head on it and one of low
// rank on the input; the second layer has fewer outputs.
struct Example {
  ShadowPlan plan{.matrices = {{kIn, kHidden},
                               {kHidden, kOut},
                               {kHidden, kOut / 2},
                               {kIn, kRank},
                               {kRank, kOut},
                               {kRank, kOut / 2}},
                  .vectors = {kHidden, kHidden, kHidden, kHidden, kIn, kIn, kOut, kOut / 2}};
  std::vector<Vector> matrices, vectors;
  Vector x = spread_values(kIn, 99);

  Example() {
    for (const int layer : {0, 1}) {
      plan.layers.push_back(
          {.n_in = kIn,
           .n_out = kOut / (layer + 1),
           .input_scale = 4 + layer,
           .blocks = {{.matrix = 0, .bias = layer, .norm_weight = 2, .norm_bias = 3}},
           .heads = {{.matrix = 1 + layer}, {.matrix = 3, .then = 4 + layer, .from_input = true}},
           .bias = 6 + layer});
    }
    for (const auto& m : plan.matrices) {
      matrices.push_back(
          spread_values(static_cast<size_t>(m.n_in * m.n_out), static_cast<uint32_t>(matrices.size())));
    }
    for (const int32_t n : plan.vectors) {
      vectors.push_back(spread_values(static_cast<size_t>(n), 50 + static_cast<uint32_t>(vectors.size())));
    }
  }
  Vector expected(size_t layer) const {
    Vector h = x;
    for (size_t i = 0; i < h.size(); ++i) h[i] *= vectors[4 + layer][i];
    h = multiply(matrices[0], h);
    add(h, vectors[layer]);
    normalise(h, vectors[2], vectors[3]);
    silu(h);
    Vector y = multiply(matrices[1 + layer], h);
    add(y, multiply(matrices[4 + layer], multiply(matrices[3], x)));
    add(y, vectors[6 + layer]);
    return y;
  }
  std::unique_ptr<ShadowNetwork> network(ShadowNetwork::Options options) const {
    auto created = ShadowNetwork::create(plan, options);
    if (!created.has_value()) {
      ADD_FAILURE() << created.error().message;
      return nullptr;
    }
    for (size_t i = 0; i < matrices.size(); ++i) (*created)->set_matrix(i, matrices[i]);
    for (size_t i = 0; i < vectors.size(); ++i) (*created)->set_vector(i, vectors[i]);
    std::ranges::copy(x, (*created)->input(0).begin());
    return std::move(*created);
  }
};

float largest_error(std::span<const float> a, const Vector& b) {
  float largest = 0;
  for (size_t i = 0; i < b.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST(ShadowNetwork, ComputesWhatThePlanSays) {
  const Example example;
  const auto network = example.network({.type = GGML_TYPE_F32});
  for (const size_t layer : {0U, 1U, 0U}) {
    ASSERT_TRUE(network->compute(layer).has_value());
    EXPECT_LT(largest_error(network->output(layer), example.expected(layer)), 1e-4F) << layer;
  }
}

TEST(ShadowNetwork, QuantisedWeightsAreClose) {
  const Example example;
  for (const bool repack : {false, true}) {
    for (const auto& [type, tolerance] :
         {std::pair(GGML_TYPE_F16, 0.03F), {GGML_TYPE_Q8_0, 0.15F}, {GGML_TYPE_Q4_0, 1.5F}}) {
      const auto network = example.network({.type = type, .repack = repack});
      ASSERT_TRUE(network->compute(1).has_value());
      EXPECT_LT(largest_error(network->output(1), example.expected(1)), tolerance) << ggml_type_name(type);
    }
  }
}

TEST(ShadowNetwork, RowsThatDoNotDivideIntoBlocksStayHalfPrecision) {
  const ShadowPlan plan{.matrices = {{33, 4}},
                        .layers = {{.n_in = 33, .n_out = 4, .heads = {{.matrix = 0}}}}};
  const auto network = ShadowNetwork::create(plan, {.type = GGML_TYPE_Q4_0});
  ASSERT_TRUE(network.has_value());
  EXPECT_EQ((*network)->type_of(0), GGML_TYPE_F16);
}

TEST(ShadowNetwork, QuantisedWeightsTakeLessMemory) {
  const Example example;
  const auto half = example.network({.type = GGML_TYPE_F16}),
             four = example.network({.type = GGML_TYPE_Q4_0});
  EXPECT_GT(half->weight_bytes(), 2 * four->weight_bytes());
  EXPECT_EQ(half->bytes_read(0), 2U * (kIn * kHidden + kHidden * kOut + kIn * kRank + kRank * kOut));
}

TEST(ShadowNetwork, LargeOnesHaveSmallerWeights) {
  ShadowPlan plan{.matrices = {{7168, 1024}, {1024, 1536}}};
  EXPECT_EQ(suitable_type(plan), GGML_TYPE_Q8_0);
  for (int layer = 1; layer < 60; ++layer)
    plan.matrices.insert(plan.matrices.end(), {{7168, 1024}, {1024, 1536}});
  EXPECT_EQ(suitable_type(plan), GGML_TYPE_Q4_0);
}

TEST(ShadowNetwork, APlanThatDoesNotFitTogetherIsRefused) {
  Example example;
  example.plan.layers[1].heads[0].matrix = 0;
  const auto wrong_matrix = ShadowNetwork::create(example.plan, {});
  ASSERT_FALSE(wrong_matrix.has_value());
  EXPECT_THAT(wrong_matrix.error().message, HasSubstr("layer 1"));
  example = {};
  example.plan.layers[0].blocks[0].bias = 6;
  EXPECT_FALSE(ShadowNetwork::create(example.plan, {}).has_value());
  example = {};
  example.plan.layers[0].heads.clear();
  EXPECT_FALSE(ShadowNetwork::create(example.plan, {}).has_value());
}

}  // namespace
}  // namespace odmoe
