#include "model/joint_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "backend/tensor_memory.h"

namespace odmoe {
namespace {

constexpr int64_t kWidth = 24;
constexpr size_t kParts = 5;
constexpr int kMaxNodes = 64;

// A small network of F32, whose products round alike for any number of columns, on inputs of several parts,
// which lie behind each other or not.
class JointGraph : public ::testing::Test {
 protected:
  void SetUp() override {
    ggml_context* ctx = context_.get();
    for (ggml_tensor*& one : weights_) one = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kWidth, kWidth);
    for (size_t i = 0; i < kParts; ++i) {
      input_[i] = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, kWidth);
      own_[i] = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kWidth, 8);
      left_[i] = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, kWidth);
      result_[i] = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, kWidth);
    }
    for (ggml_tensor*& one : columns_) one = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kWidth, kParts);
    positions_ = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, kParts);
    for (size_t i = 0; i < kParts; ++i) {
      position_[i] = ggml_view_1d(ctx, positions_, 1, sizeof(int32_t) * i);
      column_[i] = ggml_view_1d(ctx, columns_[0], kWidth, columns_[0]->nb[1] * i);
    }
    buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx, backend_->buffer_type()));
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    const auto fill = [&](ggml_tensor* tensor) {
      std::ranges::generate(host_values<float>(tensor), [&] { return normal(random); });
    };
    for (ggml_tensor* one : weights_) fill(one);
    fill(columns_[0]);
    std::ranges::generate(host_values<int32_t>(positions_), [n = 3]() mutable { return n *= 2; });
    for (size_t i = 0; i < kParts; ++i) {
      fill(input_[i]);
      fill(own_[i]);
    }
  }

  // As layers do: an operand of two products, one that is somebody's own memory, one that is a view; a
  // product with what is the part's alone; products that are added to, viewed and written elsewhere.
  void build(Graph& graph, size_t i, int more_nodes = 0) {
    ggml_context* ctx = graph.context();
    ggml_tensor* x = ggml_mul(ctx, ggml_rms_norm(ctx, input_[i], 1e-5F), input_[i]);
    ggml_tensor* q = ggml_scale(ctx, ggml_mul_mat(ctx, weights_[0], x), 0.5F);
    ggml_tensor* k = ggml_reshape_2d(ctx, ggml_mul_mat(ctx, weights_[1], x), kWidth / 2, 2);
    for (int n = 0; n < more_nodes; ++n) q = ggml_scale(ctx, q, 1.0F);
    ggml_tensor* seen = ggml_mul_mat(ctx, own_[i], q);  // [8, 1]
    ggml_tensor* sum =
        ggml_add(ctx, ggml_reshape_1d(ctx, k, kWidth), ggml_repeat(ctx, ggml_sum(ctx, seen), input_[i]));
    place_within(left_[i], sum);
    graph.expand(sum);
    ggml_tensor* y = ggml_mul_mat(ctx, weights_[2], sum);
    ggml_tensor* z = ggml_add_inplace(ctx, y, x);
    ggml_tensor* last = ggml_mul_mat(ctx, weights_[3], ggml_reshape_1d(ctx, ggml_silu(ctx, z), kWidth));
    place_within(result_[i], last);
    graph.expand(last);
  }

  // What goes row by row alone: inputs and results are behind each other.
  void build_rows(Graph& graph, size_t i, FiniteChecks* checks = nullptr) {
    ggml_context* ctx = graph.context();
    ggml_tensor* x = ggml_mul(ctx, ggml_rms_norm(ctx, column_[i], 1e-5F), own_row_);
    graph.expand(x);
    if (checks != nullptr) graph.expand(checks->node(ctx, x));
    ggml_tensor* heads = ggml_reshape_3d(ctx, ggml_mul_mat(ctx, weights_[0], x), kWidth / 2, 2, 1);
    heads = ggml_rope(ctx, ggml_rms_norm(ctx, heads, 1e-5F), position_[i], kWidth / 2, GGML_ROPE_TYPE_NEOX);
    ggml_tensor* y = ggml_view_2d(ctx, heads, kWidth / 2, 1, heads->nb[1], heads->nb[1]);
    ggml_tensor* last =
        ggml_mul_mat(ctx, weights_[1], ggml_add(ctx, column_[i], ggml_reshape_1d(ctx, heads, kWidth)));
    place_within(columns_[1], last, columns_[1]->nb[1] * i);
    graph.expand(last);
    ggml_tensor* half = ggml_silu(ctx, ggml_mul(ctx, ggml_cont(ctx, y), y));
    ggml_tensor* both = ggml_mul(ctx, last, ggml_reshape_1d(ctx, ggml_concat(ctx, half, half, 0), kWidth));
    place_within(columns_[2], both, columns_[2]->nb[1] * i);
    graph.expand(both);
  }

  static int count(ggml_cgraph* graph, ggml_op op) {
    const std::span nodes(ggml_graph_nodes(graph), static_cast<size_t>(ggml_graph_n_nodes(graph)));
    return static_cast<int>(std::ranges::count(nodes, op, &ggml_tensor::op));
  }

  void run(ggml_cgraph* graph) {
    const ggml_gallocr_ptr allocator(ggml_gallocr_new(backend_->buffer_type()));
    ASSERT_TRUE(ggml_gallocr_alloc_graph(allocator.get(), graph));
    ASSERT_TRUE(backend_->compute(graph).has_value());
  }

  std::vector<std::vector<float>> results() const {
    std::vector<std::vector<float>> values;
    for (const auto& of : {result_, left_}) {
      for (const ggml_tensor* one : of) {
        const std::span<float> some = host_values<float>(one);
        values.emplace_back(some.begin(), some.end());
      }
    }
    return values;
  }

  void clear() {
    for (const auto& of : {result_, left_}) {
      for (const ggml_tensor* one : of) std::ranges::fill(host_values<float>(one), -1.0F);
    }
  }

  // What `n` parts make of themselves, one after the other.
  std::vector<std::vector<float>> alone(size_t n) {
    clear();
    for (size_t i = 0; i < n; ++i) {
      Graph graph(kMaxNodes);
      build(graph, i);
      run(graph.graph());
    }
    return results();
  }

  std::vector<Graph> parts(size_t n, int more_nodes_of_the_last = 0) {
    std::vector<Graph> graphs;
    for (size_t i = 0; i < n; ++i) {
      graphs.emplace_back(kMaxNodes);
      build(graphs.back(), i, i + 1 == n ? more_nodes_of_the_last : 0);
    }
    return graphs;
  }

  static std::vector<const Graph*> pointers(const std::vector<Graph>& graphs) {
    std::vector<const Graph*> all;
    for (const Graph& graph : graphs) all.push_back(&graph);
    return all;
  }

  static int products(ggml_cgraph* graph, int64_t columns) {
    const std::span nodes(ggml_graph_nodes(graph), static_cast<size_t>(ggml_graph_n_nodes(graph)));
    return static_cast<int>(std::ranges::count_if(nodes, [&](const ggml_tensor* node) {
      return node->op == GGML_OP_MUL_MAT && node->ne[1] == columns;
    }));
  }

  GraphJoiner joiner_;
  std::unique_ptr<Backend> backend_ = Backend::create(2).value();
  ggml_context_ptr context_{
      ggml_init({.mem_size = ggml_tensor_overhead() * 64, .mem_buffer = nullptr, .no_alloc = true})};
  ggml_backend_buffer_ptr buffer_;
  std::array<ggml_tensor*, 4> weights_{};
  std::array<ggml_tensor*, kParts> input_{}, own_{}, left_{}, result_{};
  std::array<ggml_tensor*, 3> columns_{};  // what rows begin with, and two results
  ggml_tensor* positions_ = nullptr;
  ggml_tensor*& own_row_ = input_[0];
  std::array<ggml_tensor*, kParts> position_{}, column_{};
};

TEST_F(JointGraph, EveryValueIsThatOfThePartsAlone) {
  for (const size_t n : {size_t{2}, size_t{3}, kParts}) {
    const auto wanted = alone(n);
    for (const int32_t columns : {1, 2, 3, 16}) {
      SCOPED_TRACE(::testing::Message() << n << " parts, " << columns << " columns");
      clear();
      const std::vector<Graph> graphs = parts(n);
      Graph joint(GraphJoiner::max_nodes(static_cast<int>(n), kMaxNodes));
      ASSERT_TRUE(joiner_.join(pointers(graphs), joint, [&](const ggml_tensor*) { return columns; }));
      run(joint.graph());
      EXPECT_EQ(results(), wanted);
    }
  }
}

TEST_F(JointGraph, AWeightIsMultipliedWithAsManyColumnsAsItMayBe) {
  const std::vector<Graph> graphs = parts(kParts);
  Graph joint(GraphJoiner::max_nodes(static_cast<int>(kParts), kMaxNodes));
  ASSERT_TRUE(joiner_.join(pointers(graphs), joint, [&](const ggml_tensor* product) {
    return product->src[0] == weights_[0] ? 2 : product->src[0] == weights_[1] ? 1 : 16;
  }));
  EXPECT_EQ(products(joint.graph(), 5), 2) << "of two weights all at once";
  EXPECT_EQ(products(joint.graph(), 2), 2) << "of another two and two";
  EXPECT_EQ(products(joint.graph(), 1), 1 + 5 + 5)
      << "and one; those of the last weight; and what is their own";
}

TEST_F(JointGraph, WhatGoesRowByRowIsOneNodeWithTheSameBits) {
  const auto values = [&] {
    std::vector<std::vector<float>> all;
    for (const ggml_tensor* one : {columns_[1], columns_[2]}) {
      const std::span<float> some = host_values<float>(one);
      all.emplace_back(some.begin(), some.end());
    }
    return all;
  };
  for (size_t i = 0; i < kParts; ++i) {
    Graph graph(kMaxNodes);
    build_rows(graph, i);
    run(graph.graph());
  }
  const auto wanted = values();
  for (const int32_t columns : {1, 2, 16}) {
    SCOPED_TRACE(columns);
    for (ggml_tensor* one : {columns_[1], columns_[2]}) std::ranges::fill(host_values<float>(one), -1.0F);
    std::vector<Graph> graphs;
    for (size_t i = 0; i < kParts; ++i) {
      graphs.emplace_back(kMaxNodes);
      build_rows(graphs.back(), i);
    }
    Graph joint(GraphJoiner::max_nodes(static_cast<int>(kParts), kMaxNodes));
    ASSERT_TRUE(joiner_.join(pointers(graphs), joint, [&](const ggml_tensor*) { return columns; }));
    EXPECT_EQ(count(joint.graph(), GGML_OP_RMS_NORM), 2);
    EXPECT_EQ(count(joint.graph(), GGML_OP_ROPE), 1);
    EXPECT_EQ(count(joint.graph(), GGML_OP_ADD), 1);
    EXPECT_EQ(count(joint.graph(), GGML_OP_UNARY), 1);
    EXPECT_EQ(count(joint.graph(), GGML_OP_CPY) + count(joint.graph(), GGML_OP_CONT), 1)
        << "nothing is gathered";
    EXPECT_EQ(count(joint.graph(), GGML_OP_CONCAT), static_cast<int>(kParts)) << "which is not one of these";
    run(joint.graph());
    EXPECT_EQ(values(), wanted);
  }
}

TEST_F(JointGraph, WhatIsFoundInAllRowsIsOfThePartWhoseRowItIs) {
  for (size_t bad = 0; bad < kParts; ++bad) {
    host_values<float>(columns_[0])[bad * kWidth + 5] = INFINITY;
    FiniteChecks checks;
    std::vector<Graph> graphs;
    for (size_t i = 0; i < kParts; ++i) {
      graphs.emplace_back(kMaxNodes);
      build_rows(graphs.back(), i, &checks);
    }
    Graph joint(GraphJoiner::max_nodes(static_cast<int>(kParts), kMaxNodes));
    ASSERT_TRUE(joiner_.join(pointers(graphs), joint, [&](const ggml_tensor*) { return 16; }));
    EXPECT_EQ(count(joint.graph(), GGML_OP_CUSTOM), 1);
    checks.forget();
    run(joint.graph());
    ASSERT_TRUE(checks.found());
    EXPECT_EQ(joiner_.part_of(checks.found()), bad);
    host_values<float>(columns_[0])[bad * kWidth + 5] = 1;
  }
}

TEST_F(JointGraph, PartsMayDifferBetweenProducts) {
  const auto wanted = alone(3);
  clear();
  const std::vector<Graph> graphs = parts(3, 7);
  Graph joint(GraphJoiner::max_nodes(3, kMaxNodes));
  ASSERT_TRUE(joiner_.join(pointers(graphs), joint, [](const ggml_tensor*) { return 16; }));
  run(joint.graph());
  EXPECT_EQ(results(), wanted);
}

TEST_F(JointGraph, PartsWithOtherWeightsAreLeftAsTheyAre) {
  const auto wanted = alone(2);
  clear();
  std::vector<Graph> graphs = parts(1);
  std::swap(weights_[1], weights_[2]);
  graphs.emplace_back(kMaxNodes);
  build(graphs.back(), 1);
  std::swap(weights_[1], weights_[2]);
  Graph joint(GraphJoiner::max_nodes(2, kMaxNodes));
  EXPECT_FALSE(joiner_.join(pointers(graphs), joint, [](const ggml_tensor*) { return 16; }));
  run(graphs[0].graph());
  EXPECT_EQ(results()[0], wanted[0]);
}

}  // namespace
}  // namespace odmoe
