#include "engine/prediction_thread.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <latch>

#include "deadline.h"

namespace odmoe {
namespace {

// Writes down what it is told; predict() can be made to wait, and to fail.
class SlowPredictor final : public Predictor {
 public:
  std::string_view name() const override { return "slow"; }
  Wants wants() const override { return {.router_input = true}; }
  bool calibrated() const override { return false; }
  uint64_t bytes() const override { return 0; }
  void begin_sequence() override { ++n_sequence; }
  void learn(const RoutingState& state) override { learnt.push_back(state.layer); }
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override {
    predicted.push_back(state.layer);
    begun.count_down();
    go_on.wait();
    if (fails) return fail(ErrorKind::kIo, "no idea");
    std::ranges::fill(scores, state.router_input[0]);
    return 1;
  }
  std::latch begun{1}, go_on{1};
  bool fails = false;
  std::vector<size_t> learnt, predicted;
  int n_sequence = 0;
};

class PredictionThreadTest : public ::testing::Test {
 protected:
  Status tell(size_t layer) {
    const float input = static_cast<float>(layer) + 0.5F;
    const int32_t expert = 1;
    const float weight = 1;
    return thread_.routed(
        layer,
        {.layer = layer, .router_input = {&input, 1}, .experts = {&expert, 1}, .weights = {&weight, 1}},
        true);
  }
  struct Answer {
    uint64_t step;
    float score;
    bool operator==(const Answer&) const = default;
  };
  testing::Deadline deadline_{"the thread's answer, or its end"};
  SlowPredictor predictor_;
  std::vector<Answer> answers_;
  PredictionThread thread_{predictor_,
                           {.layers = {0, 1, 2, 3}, .n_embd = 1, .n_expert = 2, .n_expert_used = 1},
                           [this](uint64_t step, int32_t, std::span<const float> scores) {
                             answers_.push_back({step, scores[0]});
                           }};
};

TEST_F(PredictionThreadTest, DoesNotKeepWaitingWhoTellsIt) {
  ASSERT_TRUE(tell(0).has_value());
  predictor_.begun.wait();  // predict() does not return before go_on
  ASSERT_TRUE(tell(1).has_value());
  predictor_.go_on.count_down();
  thread_.begin_sequence();
  EXPECT_EQ(answers_, (std::vector<Answer>{{0, 0.5F}, {1, 1.5F}}));
}

TEST_F(PredictionThreadTest, LearnsEverythingAndAnswersOnlyTheLatestQuestion) {
  ASSERT_TRUE(tell(0).has_value());
  predictor_.begun.wait();
  for (const size_t layer : {1, 2, 3}) ASSERT_TRUE(tell(layer).has_value());
  predictor_.go_on.count_down();
  thread_.begin_sequence();
  EXPECT_EQ(predictor_.learnt, (std::vector<size_t>{0, 1, 2, 3}));
  EXPECT_EQ(predictor_.predicted, (std::vector<size_t>{0, 3}));
  EXPECT_EQ(predictor_.n_sequence, 1);
}

TEST_F(PredictionThreadTest, WhatIsOnlyToBeLearntIsLearntAtOnceWhereNothingWaits) {
  const std::vector<int32_t> experts = {1};
  ASSERT_TRUE(thread_.routed(2, {.layer = 2, .experts = experts}, false).has_value());
  EXPECT_EQ(predictor_.learnt, (std::vector<size_t>{2}));  // nobody waited for the thread
  EXPECT_TRUE(predictor_.predicted.empty());
}

TEST_F(PredictionThreadTest, AnErrorComesBackFromALaterCall) {
  predictor_.fails = true;
  predictor_.go_on.count_down();
  ASSERT_TRUE(tell(0).has_value());
  thread_.begin_sequence();
  const Status status = tell(1);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "no idea");
}

}  // namespace
}  // namespace odmoe
