#include "engine/batch_foresight.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "store/testing.h"

namespace odmoe {
namespace {

constexpr ReadAlignment kStepSector{.offset_bytes = 512, .memory_bytes = 512};
constexpr int32_t kStepExperts = 8;

// Says of the layers after the one that has spoken what a token's own script says: the token's number is the
// weight of its first expert.
class ScriptOfTokens final : public Predictor {
 public:
  using Script = std::vector<std::vector<int32_t>>;  // by layer
  explicit ScriptOfTokens(std::vector<Script> scripts) : scripts_(std::move(scripts)) {}
  std::string_view name() const override { return "scripted"; }
  bool calibrated() const override { return false; }
  bool remembers() const override { return false; }
  uint64_t bytes() const override { return 0; }
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override {
    ++n_asked;
    const Script& script = scripts_[static_cast<size_t>(state.weights[0])];
    int32_t n_row = 0;
    for (size_t d = 1; d <= 2 && state.layer + d < script.size(); ++d, ++n_row) {
      const std::span<float> row = scores.subspan((d - 1) * kStepExperts, kStepExperts);
      std::ranges::fill(row, 0.0F);
      float score = 10;
      for (const int32_t expert : script[state.layer + d]) row[static_cast<size_t>(expert)] = score--;
    }
    return n_row;
  }
  int n_asked = 0;

 private:
  std::vector<Script> scripts_;
};

// Three layers of eight experts, two used, of which half fit.  A token chooses what its script says, whatever
// it foretells.
class BatchForesightTest : public ::testing::Test {
 protected:
  using Script = ScriptOfTokens::Script;

  void make(std::vector<Script> choices, std::optional<std::vector<Script>> foretold = {}) {
    choices_ = std::move(choices);
    source_.emplace(FakeModel{});
    source_->add_to(*disk_);
    ExpertStoreOptions options{.clock = disk_.get()};
    options.arena_bytes = ExpertStore::max_arena_bytes(*source_, kStepSector) / 2;
    auto store = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 32, kStepSector), options);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
    predictor_.emplace(foretold.value_or(choices_));
    foresight_.emplace(
        *predictor_,
        PredictorShape{
            .layers = {0, 1, 2}, .n_embd = 4, .n_expert = kStepExperts, .n_expert_used = 2, .lookahead = 2},
        2, 4, PrefetchGovernor());
    foresight_->attach(*store_);
  }
  void begin() {
    ASSERT_TRUE(foresight_->begin_step(choices_.size(), now_us_));
    for (size_t token = 0; token < choices_.size(); ++token) {
      ASSERT_TRUE(foresight_->begin_token(token, {}).has_value());
    }
    foresight_->hint_first();
  }
  void route(size_t layer) {
    for (size_t token = 0; token < choices_.size(); ++token) {
      const std::vector<float> weights = {static_cast<float>(token), 0.5F};
      ASSERT_TRUE(
          foresight_->routed(token, {.layer = layer, .experts = choices_[token][layer], .weights = weights})
              .has_value());
    }
    foresight_->layer_done(layer);
  }
  void end() { foresight_->end_step(now_us_ += 1000); }
  // If the governor lets it say anything.
  void step() {
    if (foresight_->begin_step(choices_.size(), now_us_)) {
      for (size_t layer = 0; layer < 3; ++layer) route(layer);
    }
    end();
  }
  void await(ExpertKey key) {
    while (store_->residency(key) != Residency::kResident) std::this_thread::yield();
  }

  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::optional<FakeSource> source_;
  std::unique_ptr<ExpertStore> store_;
  std::optional<ScriptOfTokens> predictor_;
  std::optional<BatchForesight> foresight_;
  std::vector<Script> choices_;
  int64_t now_us_ = 0;
};

TEST_F(BatchForesightTest, WhatAnyTokenIsForetoldToWantIsRead) {
  make({{{0, 1}, {2, 3}, {4, 5}}, {{0, 1}, {6, 3}, {4, 7}}});
  begin();
  for (size_t layer = 0; layer < 3; ++layer) route(layer);  // only now is it known that the guesses are right
  end();
  begin();
  route(0);
  for (const int32_t expert : {2, 3, 6}) await({1, expert});
}

TEST_F(BatchForesightTest, EachTokensGuessesAreJudgedByWhatItChooses) {
  make({{{0, 1}, {2, 3}, {4, 5}}, {{0, 1}, {6, 7}, {4, 5}}},
       std::vector<Script>{{{}, {2, 3}, {4, 5}}, {{}, {2, 3}, {4, 5}}});
  step();
  const auto ahead = foresight_->ahead();
  // One ahead: layer 1, right for the first token alone, and layer 2.  Two ahead: layer 2.
  EXPECT_EQ(ahead[0].wanted, 8U);
  EXPECT_EQ(ahead[0].foreseen, 6U);
  EXPECT_EQ(ahead[1].wanted, 4U);
  EXPECT_EQ(ahead[1].foreseen, 4U);
}

TEST_F(BatchForesightTest, NothingIsReadForAPredictorThatIsAlwaysWrong) {
  const Script wrong = {{}, {6, 7}, {6, 7}};
  make({{{0, 1}, {2, 3}, {4, 5}}, {{0, 1}, {2, 3}, {4, 5}}}, std::vector<Script>{wrong, wrong});
  for (int i = 0; i < 40; ++i) step();
  EXPECT_EQ(foresight_->ahead()[0].foreseen, 0U);
  EXPECT_EQ(store_->stats().prefetched, 0U);
}

TEST_F(BatchForesightTest, WhereNoGuessIsWorthAReadItAsksSeldom) {
  const Script wrong = {{}, {6, 7}, {6, 7}};
  make({{{0, 1}, {2, 3}, {4, 5}}, {{0, 1}, {2, 3}, {4, 5}}}, std::vector<Script>{wrong, wrong});
  for (int i = 0; i < 16; ++i) step();
  const int at_first = predictor_->n_asked;
  for (int i = 0; i < 160; ++i) step();
  EXPECT_LE(predictor_->n_asked - at_first, 2 * 2 * (160 / 16 + 1));
}

TEST_F(BatchForesightTest, WhatWasSaidInOneStepIsForgottenInTheNext) {
  make({{{0, 1}, {2, 3}, {4, 5}}, {{0, 1}, {6, 7}, {4, 5}}});
  begin();
  route(0);
  begin();  // the first one failed
  for (size_t token = 0; token < 2; ++token) {
    const std::vector<float> weights = {static_cast<float>(token), 0.5F};
    ASSERT_TRUE(foresight_->routed(token, {.layer = 1, .experts = choices_[token][1], .weights = weights})
                    .has_value());
  }
  EXPECT_EQ(foresight_->ahead()[0].wanted, 0U);
}

}  // namespace
}  // namespace odmoe
