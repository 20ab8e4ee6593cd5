#include "engine/prefetch_governor.h"

#include <gtest/gtest.h>

#include <random>

namespace odmoe {
namespace {

using Token = PrefetchGovernor::Token;

constexpr int kTrial = PrefetchGovernor::kTrialBlocks * PrefetchGovernor::kBlockTokens;
constexpr int kFirst = PrefetchGovernor::kWarmUp + kTrial;  // until the end of the first trial

// A machine on which a token computes for 1000 us and each missing expert costs `wait` or, prefetched for,
// `wait_with`, guessing itself `guess_us`.
struct Machine {
  int64_t guess_us = 20, wait_us = 100, wait_with_us = 60;
  Token run(bool on, uint64_t missing) const {
    const int64_t stall = static_cast<int64_t>(missing) * (on ? wait_with_us : wait_us);
    return {.us = 1000 + (on ? guess_us : 0) + stall, .stall_us = stall, .missing = missing};
  }
};

TEST(PrefetchGovernor, StaysOnWherePrefetchingHidesWaits) {
  PrefetchGovernor governor;
  const Machine machine;
  for (int i = 0; i < kFirst; ++i) governor.token_done(machine.run(governor.on(), 10));
  EXPECT_TRUE(governor.verdict());
  EXPECT_EQ(governor.n_trial(), 1U);
  EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 1e-9);
}

TEST(PrefetchGovernor, SwitchesOffWhereGuessingCostsMoreThanItHides) {
  PrefetchGovernor governor;
  const Machine machine{.guess_us = 500, .wait_us = 100, .wait_with_us = 60};
  for (int i = 0; i < kFirst; ++i) governor.token_done(machine.run(governor.on(), 10));
  EXPECT_FALSE(governor.verdict());
  EXPECT_FALSE(governor.on());
  EXPECT_LT(governor.gain(), 1);
}

TEST(PrefetchGovernor, SwitchesOffWhereNothingIsMissing) {
  PrefetchGovernor governor;
  const Machine machine;
  for (int i = 0; i < kFirst; ++i) governor.token_done(machine.run(governor.on(), 0));
  EXPECT_FALSE(governor.verdict());
}

TEST(PrefetchGovernor, IsNotMisledByHowManyExpertsTokensMiss) {
  // Guessing is of use, but the tokens that had it happen to miss far more.
  PrefetchGovernor governor;
  const Machine machine;
  for (int i = 0; i < kFirst; ++i) governor.token_done(machine.run(governor.on(), governor.on() ? 30 : 3));
  EXPECT_TRUE(governor.verdict());
  EXPECT_GT(governor.gain(), 1.1);
}

TEST(PrefetchGovernor, IsNotMisledByWhatTheFirstTokensPayFor) {
  PrefetchGovernor governor;
  const Machine machine;
  for (int i = 0; i < kFirst; ++i) {
    Token token = machine.run(governor.on(), 10);
    if (i < PrefetchGovernor::kWarmUp) token.us += 50'000;
    governor.token_done(token);
  }
  EXPECT_TRUE(governor.verdict());
}

TEST(PrefetchGovernor, TriesAgainAfterAWhileAndFindsOutThatThingsHaveChanged) {
  PrefetchGovernor governor;
  Machine machine{.guess_us = 500, .wait_us = 100, .wait_with_us = 60};
  for (int i = 0; i < kFirst; ++i) governor.token_done(machine.run(governor.on(), 10));
  ASSERT_FALSE(governor.verdict());
  machine.guess_us = 20;
  for (int i = 0; i < PrefetchGovernor::kLeastHold; ++i) {
    EXPECT_FALSE(governor.on());
    governor.token_done(machine.run(false, 10));
  }
  for (int i = 0; i < kTrial; ++i) governor.token_done(machine.run(governor.on(), 10));
  EXPECT_TRUE(governor.verdict());
  EXPECT_EQ(governor.n_trial(), 2U);
}

TEST(PrefetchGovernor, TrialsBecomeRareWhileTheyConfirmTheVerdict) {
  PrefetchGovernor governor;
  const Machine machine{.guess_us = 500, .wait_us = 100, .wait_with_us = 60};
  int n_on = 0;
  constexpr int kTokens = 20'000;
  for (int i = 0; i < kTokens; ++i) {
    n_on += governor.on() ? 1 : 0;
    governor.token_done(machine.run(governor.on(), 10));
  }
  // The price of knowing: one token in fifty at most.
  EXPECT_LT(n_on * 50, kTokens);
  EXPECT_GT(governor.n_trial(), 5U);
}

TEST(PrefetchGovernor, LooksAgainWhenFarMoreExpertsAreMissing) {
  PrefetchGovernor governor;
  const Machine machine;
  const auto run = [&](int tokens, uint64_t missing) {
    for (int i = 0; i < tokens; ++i) governor.token_done(machine.run(governor.on(), missing));
  };
  run(20'000, 0);
  ASSERT_FALSE(governor.verdict());
  const uint64_t trials = governor.n_trial();
  run(2 * PrefetchGovernor::kLeastHold + kTrial, 20);
  EXPECT_GT(governor.n_trial(), trials);
  EXPECT_TRUE(governor.verdict());
}

TEST(PrefetchGovernor, TellsASmallGainFromTheNoiseOfTokens) {
  // Times of tokens vary by half, waits of single experts by a fifth; guessing gives a twentieth.
  int right = 0;
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int> missing(2, 18);
    std::uniform_int_distribution<int> wait(80, 120);
    PrefetchGovernor governor;
    for (int i = 0; i < kFirst; ++i) {
      const bool on = governor.on();
      const int n = missing(random);
      int64_t stall = 0;
      for (int k = 0; k < n; ++k) stall += wait(random) * (on ? 9 : 10) / 10;
      governor.token_done({.us = 1000 + stall, .stall_us = stall, .missing = static_cast<uint64_t>(n)});
    }
    right += governor.verdict() ? 1 : 0;
  }
  EXPECT_GE(right, 49);
}

}  // namespace
}  // namespace odmoe
