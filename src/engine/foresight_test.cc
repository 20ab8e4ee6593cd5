#include "engine/foresight.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "store/testing.h"

namespace odmoe {
namespace {

constexpr ReadAlignment kSector{.offset_bytes = 512, .memory_bytes = 512};
constexpr int32_t kExperts = 8;

// Says of each layer what the test wrote down for it, two layers ahead, whoever asks.
class ScriptedPredictor final : public Predictor {
 public:
  explicit ScriptedPredictor(std::vector<std::vector<int32_t>> says) : says_(std::move(says)) {}
  std::string_view name() const override { return "scripted"; }
  bool calibrated() const override { return false; }
  uint64_t bytes() const override { return 0; }
  Result<int32_t> predict(const RoutingState& state, std::span<float> scores) override {
    ++n_asked;
    int32_t n_row = 0;
    for (size_t d = 1; d <= 2 && state.layer + d < says_.size(); ++d, ++n_row) {
      const std::span<float> row = scores.subspan((d - 1) * kExperts, kExperts);
      std::ranges::fill(row, 0.0F);
      float score = 10;
      for (const int32_t expert : says_[state.layer + d]) row[static_cast<size_t>(expert)] = score--;
    }
    return n_row;
  }
  int n_asked = 0;

 private:
  std::vector<std::vector<int32_t>> says_;
};

// Three layers of eight experts, two used, of which half fit.  Every token chooses experts 0 and 1 in layer
// 0, 2 and 3 in layer 1, 4 and 5 in layer 2.
class ForesightTest : public ::testing::Test {
 protected:
  void make(std::vector<std::vector<int32_t>> says, int32_t lookahead,
            Foresight::Ask ask = Foresight::Ask::kHere) {
    source_.emplace(FakeModel{});
    source_->add_to(*disk_);
    ExpertStoreOptions options{.clock = disk_.get()};
    options.arena_bytes = ExpertStore::max_arena_bytes(*source_, kSector) / 2;
    auto store = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 32, kSector), options);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
    auto predictor = std::make_unique<ScriptedPredictor>(std::move(says));
    predictor_ = predictor.get();
    foresight_.emplace(
        std::move(predictor),
        PredictorShape{
            .layers = {0, 1, 2}, .n_embd = 4, .n_expert = kExperts, .n_expert_used = 2, .lookahead = 2},
        lookahead, ask);
    foresight_->attach(*store_);
  }
  // One token, of which nothing is leased.
  void token() {
    begin();
    for (size_t layer = 0; layer < 3; ++layer) route(layer);
    now_us_ += 1000;
    foresight_->end_token(now_us_);
  }
  void begin() { ASSERT_TRUE(foresight_->begin_token({}, now_us_).has_value()); }
  void route(size_t layer) {
    const std::vector<int32_t> chosen = {static_cast<int32_t>(2 * layer),
                                         static_cast<int32_t>(2 * layer + 1)};
    const std::vector<float> weights = {0.5F, 0.5F};
    ASSERT_TRUE(foresight_->routed({.layer = layer, .experts = chosen, .weights = weights}).has_value());
  }
  // A read that had been asked for before has then begun.
  void lease_and_wait(ExpertKey key) {
    const std::vector<int32_t> experts = {key.expert};
    std::vector<ExpertLease> leases;
    store_->lease(key.layer, experts, leases);
    ASSERT_TRUE(store_->wait_all(leases).has_value());
  }
  void await(ExpertKey key) {
    while (store_->residency(key) != Residency::kResident) std::this_thread::yield();
  }

  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::optional<FakeSource> source_;
  std::unique_ptr<ExpertStore> store_;
  std::optional<Foresight> foresight_;
  ScriptedPredictor* predictor_ = nullptr;
  int64_t now_us_ = 0;
};

TEST_F(ForesightTest, ReadsNothingUntilAGuessHasProvedWorthIt) {
  make({{}, {2, 3}, {4, 5}}, 1);
  begin();
  route(0);
  lease_and_wait({0, 0});
  EXPECT_EQ(store_->stats().prefetched, 0U);
  route(1);  // only now is it known that the guesses were right
  route(2);
  foresight_->end_token(now_us_ += 1000);
  begin();
  route(0);
  await({1, 2});
  await({1, 3});
}

TEST_F(ForesightTest, ReadsWhatIsCertainAtOnceUntilItsLayerHasSpoken) {
  make({{}, {2, 3}, {4, 5}}, 1);
  const std::vector<Foresight::Certain> known = {
      {.layer = 0, .expert = 0}, {.layer = 0, .expert = 1}, {.layer = 1, .expert = 6}};
  begin();
  foresight_->know(known);
  for (const ExpertKey key : {ExpertKey{0, 0}, ExpertKey{0, 1}, ExpertKey{1, 6}}) await(key);
  for (size_t layer = 0; layer < 3; ++layer) route(layer);
  foresight_->end_token(now_us_ += 1000);
  // Of the next token nothing is known, and the guesses of layer 1 have proved right.
  begin();
  route(0);
  await({1, 2});
  await({1, 3});
}

TEST_F(ForesightTest, CountsWhatWasForeseenByDistance) {
  make({{}, {2, 3}, {4, 7}}, 2);
  for (int i = 0; i < PrefetchGovernor::kBlockTokens; ++i) token();
  const auto ahead = foresight_->ahead();
  ASSERT_EQ(ahead.size(), 2U);
  // One ahead: layers 1 (both right) and 2 (one of two).  Two ahead: layer 2 alone.
  EXPECT_EQ(ahead[0].wanted, 4U * PrefetchGovernor::kBlockTokens);
  EXPECT_EQ(ahead[0].foreseen, 3U * PrefetchGovernor::kBlockTokens);
  EXPECT_EQ(ahead[1].wanted, 2U * PrefetchGovernor::kBlockTokens);
  EXPECT_EQ(ahead[1].foreseen, 1U * PrefetchGovernor::kBlockTokens);
}

TEST_F(ForesightTest, ListensNoFartherThanAskedFor) {
  make({{}, {2, 3}, {4, 5}}, 1);
  token();
  EXPECT_EQ(foresight_->ahead().size(), 1U);
}

TEST_F(ForesightTest, ReadsNothingForAPredictorThatIsAlwaysWrong) {
  make({{}, {6, 7}, {6, 7}}, 2);
  for (int i = 0; i < 10; ++i) token();
  EXPECT_EQ(foresight_->ahead()[0].foreseen, 0U);
  lease_and_wait({0, 0});
  EXPECT_EQ(store_->stats().prefetched, 0U);
}

TEST_F(ForesightTest, AsksSeldomWhereNoGuessIsWorthARead) {
  make({{}, {7, 6}, {7, 6}}, 1);
  for (int i = 0; i < 16; ++i) token();
  const int asked_at_first = predictor_->n_asked;
  for (int i = 0; i < 160; ++i) token();
  // Two layers with one after them; every sixteenth of the tokens that the governor allows.
  EXPECT_LE(predictor_->n_asked - asked_at_first, 160 / 16 * 3);
}

TEST_F(ForesightTest, ReadsWhatAThreadOfItsOwnSays) {
  make({{}, {2, 3}, {4, 5}}, 1, Foresight::Ask::kOnItsOwnThread);
  begin();
  for (size_t layer = 0; layer < 3; ++layer) {
    route(layer);
    foresight_->await_guesses();
  }
  foresight_->end_token(now_us_ += 1000);
  EXPECT_EQ(foresight_->ahead()[0].wanted, 4U);
  EXPECT_EQ(foresight_->ahead()[0].foreseen, 4U);
  begin();
  route(0);  // what is guessed after the next router would take the place of what is not begun yet
  await({1, 2});
  await({1, 3});
}

TEST_F(ForesightTest, WhatAThreadSaysTooLateCountsForNoLaterToken) {
  make({{}, {2, 3}, {4, 5}}, 2, Foresight::Ask::kOnItsOwnThread);
  for (int i = 0; i < 200; ++i) token();
  const auto ahead = foresight_->ahead();
  // All that was said was right, so any list that was heard is; one of another layer or token is not.
  EXPECT_EQ(ahead[0].foreseen, ahead[0].wanted);
  EXPECT_EQ(ahead[1].foreseen, ahead[1].wanted);
}

TEST_F(ForesightTest, WhatWasSaidOfAnotherSequenceIsForgotten) {
  make({{}, {2, 3}, {4, 5}}, 1);
  begin();
  route(0);
  foresight_->begin_sequence();
  route(1);
  EXPECT_EQ(foresight_->ahead()[0].wanted, 0U);
}

}  // namespace
}  // namespace odmoe
