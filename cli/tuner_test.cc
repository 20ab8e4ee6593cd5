#include "cli/tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kSecond = 1'000'000;
constexpr TurnLengths kTurn{.prompt_tokens = 100, .answer_tokens = 100};
constexpr Tuning kFirst{.threads = 4, .lookahead = 3, .memory_bytes = 0, .chunk = 512};

// A machine on which a turn takes what `seconds` says, each measurement ten seconds.
class TunerTest : public ::testing::Test, public Clock {
 public:
  int64_t now_us() const override { return now_us_; }

 protected:
  Result<TuningResult> search(const std::vector<TunedValues>& values, int64_t limit_s = 100000) {
    return search_tuning(kFirst, values, kTurn, limit_s * kSecond, *this,
                         [this](const Tuning& tuning, TunedSetting) -> Result<MeasuredSpeed> {
                           now_us_ += 10 * kSecond;
                           measured_.push_back(tuning);
                           const double seconds = seconds_(tuning, static_cast<int>(measured_.size()));
                           if (seconds < 0) return fail(ErrorKind::kBudget, "no room");
                           if (seconds == 0) return fail(ErrorKind::kIo, "a drive is gone");
                           return MeasuredSpeed{.prefill = 200 / seconds, .decode = 200 / seconds};
                         });
  }
  std::vector<Trial::Outcome> outcomes(const TuningResult& result) {
    std::vector<Trial::Outcome> all;
    for (const Trial& trial : result.trials) all.push_back(trial.outcome);
    return all;
  }

  std::function<double(const Tuning&, int n)> seconds_;
  std::vector<Tuning> measured_;
  int64_t now_us_ = 5 * kSecond;
};

TEST_F(TunerTest, AChangeThatIsFasterTwiceIsKeptAndTheNextSettingIsTriedWithIt) {
  seconds_ = [](const Tuning& t, int) { return (t.threads == 2 ? 5.0 : 10.0) + (t.chunk == 1024 ? 0 : 1); };
  const auto result = search({{TunedSetting::kThreads, {3, 2}}, {TunedSetting::kChunk, {1024}}}).value();
  EXPECT_EQ(result.best, (Tuning{.threads = 2, .lookahead = 3, .memory_bytes = 0, .chunk = 1024}));
  using enum Trial::Outcome;
  EXPECT_THAT(outcomes(result), ElementsAre(kBefore, kNotFaster, kKept, kBefore, kKept));
  EXPECT_EQ(measured_.back().threads, 2);
}

TEST_F(TunerTest, WhatIsFasterBecauseTheMachineWasQuietForAMomentIsNotKept) {
  // The third measurement alone is fast, whatever is measured.
  seconds_ = [](const Tuning&, int n) { return n == 2 ? 5.0 : 10.0; };
  const auto result = search({{TunedSetting::kThreads, {2}}}).value();
  EXPECT_EQ(result.best, kFirst);
  EXPECT_EQ(result.trials.back().outcome, Trial::Outcome::kFasterOnce);
}

TEST_F(TunerTest, WhatWasSlowAtFirstIsMeasuredAgainBeforeAnotherTakesItsPlace) {
  // The machine was busy during the first measurement.
  seconds_ = [](const Tuning&, int n) { return n == 1 ? 20.0 : 10.0; };
  const auto result = search({{TunedSetting::kThreads, {2}}}).value();
  EXPECT_EQ(result.best, kFirst);
  EXPECT_EQ(result.trials.back().outcome, Trial::Outcome::kFasterOnce);
}

TEST_F(TunerTest, AGainWithinTheNoiseChangesNothing) {
  seconds_ = [](const Tuning& t, int) { return t.threads == 2 ? 9.8 : 10.0; };
  EXPECT_EQ(search({{TunedSetting::kThreads, {2}}}).value().best, kFirst);
}

TEST_F(TunerTest, NoMeasurementBeginsThatWouldGoBeyondTheLimit) {
  seconds_ = [](const Tuning& t, int) { return 10.0 - t.threads; };
  const auto result =
      search({{TunedSetting::kThreads, {3, 2, 1}}, {TunedSetting::kChunk, {1024}}}, 35).value();
  EXPECT_LE(measured_.size(), 3U);
  using enum Trial::Outcome;
  EXPECT_THAT(outcomes(result), ElementsAre(kBefore, kNotFaster, kNotFaster, kNoTime, kBefore, kNoTime));
  EXPECT_TRUE(result.trials.back().runs.empty());
}

TEST_F(TunerTest, WithLittleTimeTheFirstSettingIsStillMeasuredOnce) {
  seconds_ = [](const Tuning&, int) { return 10.0; };
  const auto result = search({{TunedSetting::kThreads, {2}}}, 0).value();
  EXPECT_EQ(measured_.size(), 1U);
  EXPECT_EQ(result.best, kFirst);
}

TEST_F(TunerTest, AValueThatTheEngineRefusesIsPassedOver) {
  seconds_ = [](const Tuning& t, int) { return t.chunk == 2048 ? -1 : t.chunk == 1024 ? 5 : 10; };
  const auto result = search({{TunedSetting::kChunk, {2048, 1024}}}).value();
  EXPECT_EQ(result.best.chunk, 1024);
  EXPECT_EQ(result.trials[1].outcome, Trial::Outcome::kRefused);
  EXPECT_EQ(result.trials[1].refusal, "no room");
}

TEST_F(TunerTest, OtherErrorsEndTheSearch) {
  seconds_ = [](const Tuning& t, int) { return t.threads == 2 ? 0 : 10; };
  const auto result = search({{TunedSetting::kThreads, {2}}});
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().kind, ErrorKind::kIo);
}

TEST_F(TunerTest, OfTwoThatAreFasterTheFasterOneIsKept) {
  seconds_ = [](const Tuning& t, int) { return static_cast<double>(t.threads); };
  const auto result = search({{TunedSetting::kThreads, {3, 2, 1}}}).value();
  EXPECT_EQ(result.best.threads, 1);
  EXPECT_EQ(result.trials.back().outcome, Trial::Outcome::kKept);
}

}  // namespace
}  // namespace odmoe::cli
