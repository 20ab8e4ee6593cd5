#include "engine/prefetch_governor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace odmoe {
namespace {

using Token = PrefetchGovernor::Token;

constexpr int kWarmUp = PrefetchGovernor::kWarmUp;

// A machine on which a token computes for 1000 us and each missing expert costs `wait` or, prefetched for,
// `wait_with`, guessing itself `guess_us`.
struct Machine {
  int64_t guess_us = 20, wait_us = 100, wait_with_us = 60, compute_us = 1000;
  Token run(bool on, uint64_t missing) const {
    const int64_t stall = static_cast<int64_t>(missing) * (on ? wait_with_us : wait_us);
    return {.us = compute_us + (on ? guess_us : 0) + stall, .missing = missing};
  }
};

void run_trials(PrefetchGovernor& governor, const Machine& machine, uint64_t missing, uint64_t n_trial = 1) {
  const uint64_t end = governor.n_trial() + n_trial;
  while (governor.n_trial() < end) governor.token_done(machine.run(governor.on(), missing));
}

TEST(PrefetchGovernor, StaysOnWherePrefetchingHidesWaits) {
  PrefetchGovernor governor;
  run_trials(governor, {}, 10);
  EXPECT_TRUE(governor.verdict());
  EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 1e-9);
}

TEST(PrefetchGovernor, SwitchesOffWhereGuessingCostsMoreThanItHides) {
  PrefetchGovernor governor;
  run_trials(governor, {.guess_us = 500}, 10);
  EXPECT_FALSE(governor.verdict());
  EXPECT_FALSE(governor.on());
  EXPECT_LT(governor.gain(), 1);
}

TEST(PrefetchGovernor, SwitchesOffWhereNothingIsMissing) {
  PrefetchGovernor governor;
  run_trials(governor, {}, 0);
  EXPECT_FALSE(governor.verdict());
}

TEST(PrefetchGovernor, SwitchesOffWhereWrongGuessesMakeExpertsGoThatAreWanted) {
  // Each wait is shorter, but there are more of them.
  PrefetchGovernor governor;
  const Machine machine{.guess_us = 0, .wait_us = 100, .wait_with_us = 95};
  while (governor.n_trial() == 0) governor.token_done(machine.run(governor.on(), governor.on() ? 11 : 10));
  EXPECT_FALSE(governor.verdict());
}

TEST(PrefetchGovernor, IsNotMisledByAPeriodOfTheText) {
  // Of every so many tokens the first half misses far more.
  for (const int period : {2, 4, 8, 16, 32}) {
    PrefetchGovernor governor;
    int token = 0;
    while (governor.n_trial() == 0) {
      governor.token_done(Machine{}.run(governor.on(), token++ % period < period / 2 ? 18 : 2));
    }
    EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 0.02) << period;
  }
}

TEST(PrefetchGovernor, IsNotMisledByWhatTheFirstTokensPayFor) {
  PrefetchGovernor governor;
  int n = 0;
  while (governor.n_trial() == 0) {
    Token token = Machine{}.run(governor.on(), 10);
    if (n++ < kWarmUp) token.us += 50'000;
    governor.token_done(token);
  }
  EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 1e-9);
}

TEST(PrefetchGovernor, TriesManyTokensWhereTheyAreFastAndFewWhereTheyAreSlow) {
  const auto tokens_of_first_trial = [](int64_t compute_us) {
    PrefetchGovernor governor;
    int n = 0;
    for (; governor.n_trial() == 0; ++n) governor.token_done({.us = compute_us, .missing = 10});
    return n - kWarmUp;
  };
  EXPECT_EQ(tokens_of_first_trial(1000), PrefetchGovernor::kMostTrial);
  EXPECT_EQ(tokens_of_first_trial(5800), 96);  // half a second, in turns of 32
  EXPECT_EQ(tokens_of_first_trial(500'000), PrefetchGovernor::kLeastTrial);
}

TEST(PrefetchGovernor, EndsATrialWhenItIsPlain) {
  PrefetchGovernor governor;
  int n = 0;
  for (; governor.n_trial() == 0; ++n) governor.token_done(Machine{.guess_us = 800}.run(governor.on(), 10));
  EXPECT_EQ(n - kWarmUp, 64);
  EXPECT_FALSE(governor.verdict());
}

TEST(PrefetchGovernor, TriesAgainAfterAWhileAndFindsOutThatThingsHaveChanged) {
  PrefetchGovernor governor;
  Machine machine{.guess_us = 500, .compute_us = 100'000};
  run_trials(governor, machine, 10);
  ASSERT_FALSE(governor.verdict());
  machine.guess_us = -5000;
  for (int i = 0; i < PrefetchGovernor::kSureHold * PrefetchGovernor::kLeastTrial; ++i) {
    EXPECT_FALSE(governor.on());
    governor.token_done(machine.run(false, 10));
  }
  run_trials(governor, machine, 10);
  EXPECT_TRUE(governor.verdict());
  EXPECT_EQ(governor.n_trial(), 2U);
}

TEST(PrefetchGovernor, EarlierTrialsCountForHalf) {
  PrefetchGovernor governor;
  Machine machine{.guess_us = 0, .wait_us = 0, .wait_with_us = 0, .compute_us = 100'000};
  machine.guess_us = 20'000;
  run_trials(governor, machine, 10);
  machine.guess_us = -5000;
  run_trials(governor, machine, 10);
  EXPECT_NEAR(governor.gain(), 100'000 / ((120'000 + 2 * 95'000) / 3.0), 1e-3);
}

TEST(PrefetchGovernor, TrialsBecomeRareWhileTheyConfirmTheVerdict) {
  for (const int64_t compute_us : {1000, 100'000}) {
    PrefetchGovernor governor;
    const Machine machine{.guess_us = compute_us / 2, .compute_us = compute_us};
    int n_on = 0;
    constexpr int kTokens = 60'000;
    for (int i = 0; i < kTokens; ++i) {
      n_on += governor.on() ? 1 : 0;
      governor.token_done(machine.run(governor.on(), 10));
    }
    // The price of knowing: one token in fifty at most.
    EXPECT_LT(n_on * 50, kTokens);
    EXPECT_GT(governor.n_trial(), 5U);
  }
}

TEST(PrefetchGovernor, IsOffWhereItIsAheadByLessThanATrialCanTell) {
  for (const int64_t gain_us : {10, 30}) {  // of 1000
    PrefetchGovernor governor;
    while (governor.n_trial() == 0)
      governor.token_done({.us = governor.on() ? 1000 - gain_us : 1000, .missing = 10});
    EXPECT_EQ(governor.verdict(), gain_us == 30);
  }
}

TEST(PrefetchGovernor, WhatTrialsLoseIsAHundredthOfTheTimeAtMost) {
  // Guessing loses or gains this much, in percent of a token without it.
  for (const int percent : {-50, -30, -10, 5, 10, 50, 100}) {
    for (const int64_t compute_us : {1000, 100'000}) {
      PrefetchGovernor governor;
      const int64_t with_us = compute_us * (100 + percent) / 100, best_us = std::min(compute_us, with_us);
      // From the first verdict on, in whole trials with the time that their verdict holds.
      const auto token = [&] {
        const int64_t us = governor.on() ? with_us : compute_us;
        governor.token_done({.us = us, .missing = 10});
        return us;
      };
      while (governor.n_trial() == 0) token();
      const bool verdict = governor.verdict();
      EXPECT_EQ(verdict, percent < 0);
      int64_t lost_us = 0, us = 0;
      while (governor.n_trial() < 6) {
        const int64_t token_us = token();
        us += token_us;
        lost_us += token_us - best_us;
      }
      EXPECT_LE(static_cast<double>(lost_us), 1.01 * PrefetchGovernor::kPrice * static_cast<double>(us))
          << percent << " %, " << compute_us << " us";
    }
  }
}

TEST(PrefetchGovernor, LooksAgainWhenFarMoreExpertsAreMissing) {
  PrefetchGovernor governor;
  const Machine machine;
  for (int i = 0; i < 20'000; ++i) governor.token_done(machine.run(governor.on(), 0));
  ASSERT_FALSE(governor.verdict());
  int n = 0;
  for (; !governor.verdict() && n < 10'000; ++n) governor.token_done(machine.run(governor.on(), 20));
  // What was seen before the change counts no more, or this would have taken another trial.
  EXPECT_LE(n, 2 * PrefetchGovernor::kLeastTrial + PrefetchGovernor::kMostTrial);
}

TEST(PrefetchGovernor, AVerdictThatIsNotSureIsSoonLookedIntoAgain) {
  int n_sure = 0, n_unsure = 0;
  for (unsigned seed = 0; seed < 50; ++seed) {
    for (const bool gains : {false, true}) {
      std::mt19937 random(seed);
      std::uniform_int_distribution<int64_t> us(1000, 3000);
      PrefetchGovernor governor;
      int n = 0;
      for (; governor.n_trial() < 2; ++n) {
        governor.token_done({.us = us(random) - (gains && governor.on() ? 900 : 0), .missing = 10});
      }
      (gains ? n_sure : n_unsure) += n;
    }
  }
  // Two trials, and between them as many tokens as one of them had, or four times as many; the plain trials
  // are shorter besides.
  const double unsure = n_unsure / 50.0 / PrefetchGovernor::kMostTrial;
  EXPECT_GT(unsure, 2.5);
  EXPECT_LT(unsure, 4);
  EXPECT_GT(n_sure / 50, 5 * PrefetchGovernor::kLeastTrial);
}

TEST(PrefetchGovernor, IsOffWhereNothingIsToBeGainedMoreOftenThanChanceWouldHaveIt) {
  int on = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<int64_t> us(1000, 3000);
    PrefetchGovernor governor;
    while (governor.n_trial() == 0) governor.token_done({.us = us(random), .missing = 10});
    on += governor.verdict() ? 1 : 0;
  }
  EXPECT_LT(on, 85);  // 62 are to be expected: three in ten are better than half a standard error
}

TEST(PrefetchGovernor, TellsASmallGainFromTheNoiseOfTokens) {
  // Times of tokens vary by a third, waits of single experts by a fifth; guessing gives a twentieth or takes
  // it.
  for (const int percent : {90, 110}) {
    int right = 0;
    for (unsigned seed = 0; seed < 50; ++seed) {
      std::mt19937 random(seed);
      std::uniform_int_distribution<int> missing(2, 18);
      std::uniform_int_distribution<int> wait(80, 120);
      PrefetchGovernor governor;
      while (governor.n_trial() < 3) {
        const int n = missing(random);
        int64_t stall = 0;
        for (int k = 0; k < n; ++k) stall += wait(random) * (governor.on() ? percent : 100) / 100;
        governor.token_done({.us = 1000 + stall, .missing = static_cast<uint64_t>(n)});
      }
      right += governor.verdict() == (percent < 100) ? 1 : 0;
    }
    EXPECT_GE(right, percent < 100 ? 45 : 48) << percent;
  }
}

}  // namespace
}  // namespace odmoe
