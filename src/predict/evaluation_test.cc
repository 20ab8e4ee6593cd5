#include "predict/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "predict/previous_token.h"
#include "predict/recorded_routers.h"
#include "predict/synthetic_data.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

// Says of every layer ahead what the layer it is told of chose, best first; before the first, nothing.
class CopyCat final : public Predictor {
 public:
  explicit CopyCat(PredictorShape shape, Wants wants = {}) : shape_(std::move(shape)), wants_(wants) {}
  std::string_view name() const override { return "copy-cat"; }
  bool calibrated() const override { return false; }
  uint64_t bytes() const override { return 0; }
  Wants wants() const override { return wants_; }
  void begin_sequence() override { ++sequences; }
  void learn(const RoutingState& state) override { order.push_back({'l', state.layer}); }
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override {
    order.push_back({'p', state.layer});
    const auto n_expert = static_cast<size_t>(shape_.n_expert);
    std::ranges::fill(scores, 0.0F);
    for (size_t i = 0; i < state.experts.size(); ++i) {
      for (size_t row = 0; row < static_cast<size_t>(shape_.lookahead); ++row) {
        scores[row * n_expert + static_cast<size_t>(state.experts[i])] = 9.0F - static_cast<float>(i);
      }
    }
    return shape_.lookahead;
  }

  int sequences = 0;
  std::vector<std::pair<char, size_t>> order;

 private:
  PredictorShape shape_;
  Wants wants_;
};

RoutedModel model_of(int32_t n_layer) {
  RoutedModel model{.architecture = "test",
                    .name = "test",
                    .fingerprint = "0123456789abcdef",
                    .n_embd = 4,
                    .n_expert = 8,
                    .n_expert_used = 2};
  for (int32_t layer = 0; layer < n_layer; ++layer) model.layers.push_back(layer);
  return model;
}

// A collection of one shard, routing alone: two documents of two tokens; layers agree but for the last token,
// whose third layer chose others.
Collection write_small(const std::filesystem::path& folder, const RoutedModel& model) {
  Collection collection{.tool = "test", .model = model, .source = "synthetic", .complete = true};
  collection.states = {.router_input = false, .attention_input = false, .embedding = false};
  RoutingShard shard;
  const uint16_t half = 0x3800;  // 0.5 as f16
  for (const int document : {0, 1}) {
    for (const int position : {0, 1}) {
      const auto e = static_cast<uint16_t>(2 * (2 * document + position));
      for (const int layer : {0, 1, 2}) {
        const bool odd = document == 1 && position == 1 && layer == 2;
        shard.experts.insert(shard.experts.end(),
                             {static_cast<uint16_t>(odd ? 0 : e), static_cast<uint16_t>(odd ? 1 : e + 1)});
        shard.weights.insert(shard.weights.end(), {half, half});
      }
      shard.token.push_back(e);
      shard.document.push_back(document);
      shard.position.push_back(position);
      ++shard.n_token;
    }
  }
  const Status written = append_shard(folder, collection, shard);
  EXPECT_TRUE(written.has_value()) << written.error().message;
  return collection;
}

TEST(Evaluation, HoldsEveryGuessAgainstTheLayerItWasMadeOf) {
  const testing::TempDir folder;
  const RoutedModel model = model_of(3);
  const Collection collection = write_small(folder.path(), model);
  const PredictorShape shape = predictor_shape(model, 2);
  std::vector<Contestant> contestants;
  contestants.push_back({"copy", std::make_unique<CopyCat>(shape)});
  const auto result = evaluate_predictors(folder.path(), collection, std::move(contestants),
                                          {.lookahead = 2, .held_out_only = false});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_EQ(result->n_token, 4);
  EXPECT_EQ(result->n_document, 2);
  EXPECT_FALSE(result->control.has_value());
  const PredictionMetrics& metrics = result->scores[0].metrics;
  EXPECT_DOUBLE_EQ(metrics.cell(1, 1).recall(), 1);
  EXPECT_DOUBLE_EQ(metrics.cell(2, 1).recall(), 3.0 / 4);  // but for the last token
  EXPECT_DOUBLE_EQ(metrics.cell(2, 2).recall(), 3.0 / 4);
  EXPECT_EQ(metrics.cell(2, 2).routings, 4);
  EXPECT_EQ(metrics.cell(0, 1).routings, 0);  // nobody guessed before the first layer
  EXPECT_EQ(metrics.cell(1, 2).routings, 0);
}

TEST(Evaluation, PredictorsSeeTheOrderOfDecoding) {
  const testing::TempDir folder;
  const RoutedModel model = model_of(3);
  const Collection collection = write_small(folder.path(), model);
  auto owned = std::make_unique<CopyCat>(predictor_shape(model, 2));
  std::vector<std::pair<char, size_t>> order;
  int sequences = 0;
  {
    // What it has seen is read before the evaluation lets go of it.
    CopyCat* cat = owned.get();
    std::vector<Contestant> contestants;
    contestants.push_back({"copy", std::move(owned)});
    EvaluationOptions options{.lookahead = 2, .held_out_only = false};
    class Peek final : public Predictor {
     public:
      Peek(CopyCat* watched, std::vector<std::pair<char, size_t>>* order, int* sequences)
          : watched_(watched), order_(order), sequences_(sequences) {}
      std::string_view name() const override { return "peek"; }
      bool calibrated() const override { return false; }
      uint64_t bytes() const override { return 0; }
      Result<int32_t> predict(const RoutingState&, std::span<float>) override {
        *order_ = watched_->order;
        *sequences_ = watched_->sequences;
        return 0;
      }

     private:
      CopyCat* watched_;
      std::vector<std::pair<char, size_t>>* order_;
      int* sequences_;
    };
    contestants.push_back({"peek", std::make_unique<Peek>(cat, &order, &sequences)});
    ASSERT_TRUE(evaluate_predictors(folder.path(), collection, std::move(contestants), options).has_value());
  }
  EXPECT_EQ(sequences, 2);
  ASSERT_GE(order.size(), 5);
  const std::vector<std::pair<char, size_t>> first(order.begin(), order.begin() + 6);
  EXPECT_THAT(first, ::testing::ElementsAre(std::pair('l', 0), std::pair('p', 0), std::pair('l', 1),
                                            std::pair('p', 1), std::pair('l', 2), std::pair('l', 0)));
}

TEST(Evaluation, AStateThatWasNotRecordedIsNamed) {
  const testing::TempDir folder;
  const RoutedModel model = model_of(3);
  const Collection collection = write_small(folder.path(), model);
  std::vector<Contestant> contestants;
  contestants.push_back({"copy", std::make_unique<CopyCat>(predictor_shape(model, 2),
                                                           Predictor::Wants{.attention_input = true})});
  const auto result =
      evaluate_predictors(folder.path(), collection, std::move(contestants), {.lookahead = 2});
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr("attention inputs"));
}

TEST(Evaluation, StopsWhenToldTo) {
  const testing::TempDir folder;
  const auto data = make_synthetic_data(folder.path(), {.n_embd = 16, .n_layer = 3, .n_token = 2000}, "test");
  ASSERT_TRUE(data.has_value()) << data.error().message;
  const auto result =
      evaluate_predictors(folder.path(), data->collection, {},
                          {.held_out_only = false, .progress = [](double share) { return share < 0.25; }});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_TRUE(result->interrupted);
  EXPECT_LT(result->n_token, 600);
}

// States are recorded as f16, so an expert that is just chosen may change places with the next.
TEST(Evaluation, TheControlReadsNearlyAll) {
  const testing::TempDir folder;
  const auto data = make_synthetic_data(folder.path(), {.n_embd = 32, .n_layer = 3, .n_token = 4000}, "test");
  ASSERT_TRUE(data.has_value()) << data.error().message;
  const auto routers = read_routers(folder.path(), data->collection);
  ASSERT_TRUE(routers.has_value()) << routers.error().message;
  const PredictorShape shape = predictor_shape(data->collection.model, 2);
  std::vector<Contestant> contestants;
  contestants.push_back({"previous", std::make_unique<PreviousToken>(shape)});
  contestants.push_back({"stale", make_recorded_stale_gate(shape, data->collection.model, *routers)});
  const auto result =
      evaluate_predictors(folder.path(), data->collection, std::move(contestants), {.lookahead = 2});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  ASSERT_TRUE(result->control.has_value());
  EXPECT_GT(result->control->total(1).recall(), 0.995);
  // Tokens have nothing to do with each other, and layers see rotated states: both read chance, 4 of 32.
  EXPECT_NEAR(result->scores[0].metrics.total(1, 1).recall(), 0.125, 0.04);
  EXPECT_NEAR(result->scores[1].metrics.total(1, 1).recall(), 0.125, 0.06);
  EXPECT_LT(result->scores[0].metrics.total(1, 1).calibration_error(), 0.02);
}

TEST(RecordedRouters, MarkAnEmbeddingAsTheStateAfterTheTargetsNorm) {
  const RoutedModel model{.n_embd = 2, .n_expert = 2, .n_expert_used = 1, .layers = {0, 1}};
  const RouterWeights first{.layer = 0, .weight = {1, 0, 0, 1}, .norm = {1, 1}, .norm_bias = {}, .bias = {}};
  const RouterWeights second{
      .layer = 1, .weight = {1, 2, 3, 4}, .norm = {2, 0.5F}, .norm_bias = {}, .bias = {}};
  RecordedRouters routers(model, {first, second});
  const std::vector<float> embedding = {1, -7};  // of root mean square 5
  const std::vector<float> state = {0.4F, -0.7F};
  std::vector<float> got(2), wanted(2);
  routers.mark_embedding(embedding, 1, got);
  routers.mark(1, state, 1, wanted);
  EXPECT_FLOAT_EQ(got[0], wanted[0]);
  EXPECT_FLOAT_EQ(got[1], wanted[1]);
  EXPECT_FLOAT_EQ(wanted[1], -1.6F);
}

}  // namespace
}  // namespace odmoe
