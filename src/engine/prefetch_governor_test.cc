#include "engine/prefetch_governor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace odmoe {
namespace {

using GovernedToken = PrefetchGovernor::Token;

constexpr int kWarmUp = PrefetchGovernor::kWarmUp;

// A machine on which a token computes for 1000 us and each missing expert costs `wait` or, prefetched for,
// `wait_with`, guessing itself `guess_us`; with many reads in flight `many_us` more than with few.
struct Machine {
  int64_t guess_us = 20, wait_us = 100, wait_with_us = 60, compute_us = 1000, many_us = 0;
  GovernedToken run(Prefetching now, uint64_t missing) const {
    const bool on = now != Prefetching::kOff;
    const int64_t stall = static_cast<int64_t>(missing) * (on ? wait_with_us : wait_us);
    return {.us = compute_us + (on ? guess_us : 0) + (now == Prefetching::kMany ? many_us : 0) + stall,
            .missing = missing};
  }
};

bool is_on(const PrefetchGovernor& governor) { return governor.now() != Prefetching::kOff; }

void run_trials(PrefetchGovernor& governor, const Machine& machine, uint64_t missing, uint64_t n_trial = 1) {
  const uint64_t end = governor.n_trial() + n_trial;
  while (governor.n_trial() < end) governor.token_done(machine.run(governor.now(), missing));
}

TEST(PrefetchGovernor, StaysOnWherePrefetchingHidesWaits) {
  PrefetchGovernor governor;
  run_trials(governor, {}, 10);
  EXPECT_EQ(governor.verdict(), Prefetching::kFew);
  EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 1e-9);
}

TEST(PrefetchGovernor, SwitchesOffWhereGuessingCostsMoreThanItHides) {
  PrefetchGovernor governor;
  run_trials(governor, {.guess_us = 500}, 10);
  EXPECT_EQ(governor.verdict(), Prefetching::kOff);
  EXPECT_FALSE(is_on(governor));
  EXPECT_LT(governor.gain(), 1);
}

TEST(PrefetchGovernor, ReadsManyAtATimeWhereThatIsFaster) {
  PrefetchGovernor governor;
  run_trials(governor, {.many_us = -100}, 10, 2);
  EXPECT_EQ(governor.verdict(), Prefetching::kMany);
  EXPECT_EQ(governor.now(), Prefetching::kMany);
  run_trials(governor, {.many_us = -100}, 10, 8);
  EXPECT_EQ(governor.verdict(), Prefetching::kMany);
  EXPECT_NEAR(governor.gain(), 2000.0 / 1520.0, 1e-9);
}

TEST(PrefetchGovernor, ReadsFewAtATimeWhereManyLoseOrGainNothing) {
  for (const int64_t many_us : {0, 100, 1000}) {
    PrefetchGovernor governor;
    for (int i = 0; i < 10; ++i) {
      run_trials(governor, {.many_us = many_us}, 10);
      EXPECT_EQ(governor.verdict(), Prefetching::kFew) << many_us;
    }
    EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 1e-9);
  }
}

TEST(PrefetchGovernor, FindsManyWhereFewAreNotWorthTheirGuesses) {
  PrefetchGovernor governor;
  const Machine machine{.guess_us = 500, .many_us = -400};
  run_trials(governor, machine, 10);
  EXPECT_EQ(governor.verdict(), Prefetching::kOff);
  for (int i = 0; i < 6; ++i) {
    run_trials(governor, machine, 10);
    EXPECT_EQ(governor.verdict(), Prefetching::kMany);
  }
}

TEST(PrefetchGovernor, GoesBackToFewWhenManyNoLongerPay) {
  PrefetchGovernor governor;
  Machine machine{.wait_us = 1000, .wait_with_us = 600, .compute_us = 10'000, .many_us = -2000};
  run_trials(governor, machine, 10, 4);
  ASSERT_EQ(governor.verdict(), Prefetching::kMany);
  machine.many_us = 5000;
  run_trials(governor, machine, 10, 4);
  EXPECT_EQ(governor.verdict(), Prefetching::kFew);
}

TEST(PrefetchGovernor, TrustsAnEarlierRunInsteadOfTryingAnew) {
  for (const Prefetching verdict : {Prefetching::kOff, Prefetching::kFew, Prefetching::kMany}) {
    PrefetchGovernor governor({.verdict = verdict, .missing = 10, .hold = 400, .gains = {1.2, 1.3}});
    const Machine machine;
    for (int i = 0; i < 400; ++i) {
      EXPECT_EQ(governor.now(), verdict) << i;
      governor.token_done(machine.run(governor.now(), i < 40 ? 60 : 10));  // the arena was cold
    }
    EXPECT_EQ(governor.gain(), verdict == Prefetching::kMany ? 1.3 : 1.2);
    EXPECT_FALSE(governor.experience().has_value()) << "it has found out nothing of its own";
    run_trials(governor, machine, 10, 4);
    EXPECT_EQ(governor.verdict(), Prefetching::kFew) << "what is trusted is checked all the same";
  }
}

TEST(PrefetchGovernor, TriesAnewWhereOtherExpertsAreMissingThanInTheEarlierRun) {
  PrefetchGovernor governor({.verdict = Prefetching::kMany, .missing = 100, .hold = 100'000, .gains = {}});
  int n = 0;
  while (governor.n_trial() == 0 && n < 2000) {
    governor.token_done(Machine{.many_us = 500}.run(governor.now(), 10));
    ++n;
  }
  EXPECT_LT(n, 1000);
}

TEST(PrefetchGovernor, TellsWhatTheNextRunMayTrust) {
  PrefetchGovernor governor;
  EXPECT_FALSE(governor.experience().has_value());
  run_trials(governor, {.many_us = -100}, 10, 2);
  const auto experience = governor.experience();
  ASSERT_TRUE(experience.has_value());
  EXPECT_EQ(experience->verdict, Prefetching::kMany);
  EXPECT_DOUBLE_EQ(experience->missing, 10);
  EXPECT_GE(experience->hold, PrefetchGovernor::kLeastTrial);
  EXPECT_NEAR(experience->gains[0], 2000.0 / 1620.0, 1e-9);
}

TEST(PrefetchGovernor, SwitchesOffWhereNothingIsMissing) {
  PrefetchGovernor governor;
  run_trials(governor, {}, 0);
  EXPECT_EQ(governor.verdict(), Prefetching::kOff);
}

TEST(PrefetchGovernor, SwitchesOffWhereWrongGuessesMakeExpertsGoThatAreWanted) {
  // Each wait is shorter, but there are more of them.
  PrefetchGovernor governor;
  const Machine machine{.guess_us = 0, .wait_us = 100, .wait_with_us = 95};
  while (governor.n_trial() == 0) governor.token_done(machine.run(governor.now(), is_on(governor) ? 11 : 10));
  EXPECT_EQ(governor.verdict(), Prefetching::kOff);
}

TEST(PrefetchGovernor, IsNotMisledByAPeriodOfTheText) {
  // Of every so many tokens the first half misses far more.
  for (const int period : {2, 4, 8, 16, 32}) {
    PrefetchGovernor governor;
    int token = 0;
    while (governor.n_trial() == 0) {
      governor.token_done(Machine{}.run(governor.now(), token++ % period < period / 2 ? 18 : 2));
    }
    EXPECT_NEAR(governor.gain(), 2000.0 / 1620.0, 0.02) << period;
  }
}

TEST(PrefetchGovernor, IsNotMisledByWhatTheFirstTokensPayFor) {
  PrefetchGovernor governor;
  int n = 0;
  while (governor.n_trial() == 0) {
    GovernedToken token = Machine{}.run(governor.now(), 10);
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
  for (; governor.n_trial() == 0; ++n) governor.token_done(Machine{.guess_us = 800}.run(governor.now(), 10));
  EXPECT_EQ(n - kWarmUp, 64);
  EXPECT_EQ(governor.verdict(), Prefetching::kOff);
}

TEST(PrefetchGovernor, TriesAgainAfterAWhileAndFindsOutThatThingsHaveChanged) {
  PrefetchGovernor governor;
  Machine machine{.guess_us = 500, .compute_us = 100'000};
  run_trials(governor, machine, 10);
  ASSERT_EQ(governor.verdict(), Prefetching::kOff);
  machine.guess_us = -5000;
  for (int i = 0; i < PrefetchGovernor::kSureHold * PrefetchGovernor::kLeastTrial; ++i) {
    EXPECT_FALSE(is_on(governor));
    governor.token_done(machine.run(Prefetching::kOff, 10));
  }
  run_trials(governor, machine, 10);
  EXPECT_NE(governor.verdict(), Prefetching::kOff);
  EXPECT_EQ(governor.n_trial(), 2U);
}

TEST(PrefetchGovernor, EarlierTrialsBetweenTheSameTwoCountForHalf) {
  PrefetchGovernor governor;
  Machine machine{
      .guess_us = 20'000, .wait_us = 0, .wait_with_us = 0, .compute_us = 100'000, .many_us = 50'000};
  run_trials(governor, machine, 10, 2);  // off against few, then many
  machine.guess_us = -5000;
  run_trials(governor, machine, 10);  // few again
  EXPECT_NEAR(governor.gain(), 100'000 / ((120'000 + 2 * 95'000) / 3.0), 1e-3);
}

TEST(PrefetchGovernor, TrialsBecomeRareWhileTheyConfirmTheVerdict) {
  for (const int64_t compute_us : {1000, 100'000}) {
    PrefetchGovernor governor;
    const Machine machine{.guess_us = compute_us / 2, .compute_us = compute_us};
    int n_on = 0;
    constexpr int kTokens = 60'000;
    for (int i = 0; i < kTokens; ++i) {
      n_on += is_on(governor) ? 1 : 0;
      governor.token_done(machine.run(governor.now(), 10));
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
      governor.token_done({.us = is_on(governor) ? 1000 - gain_us : 1000, .missing = 10});
    EXPECT_EQ(governor.verdict() != Prefetching::kOff, gain_us == 30);
  }
}

TEST(PrefetchGovernor, WhatATrialLosesIsAHundredthOfTheTimeThatItsVerdictHolds) {
  // Guessing loses or gains this much, in percent of a token without it.
  for (const int percent : {-50, -30, -10, 5, 10, 50, 100}) {
    for (const int64_t compute_us : {1000, 100'000}) {
      PrefetchGovernor governor;
      const int64_t with_us = compute_us * (100 + percent) / 100, best_us = std::min(compute_us, with_us);
      for (int i = 0; i < PrefetchGovernor::kWarmUp; ++i) governor.token_done({.us = best_us, .missing = 10});
      // A trial, and the time until the next begins.
      int64_t lost_us = 0, us = 0;
      const auto token = [&] {
        const int64_t token_us = is_on(governor) ? with_us : compute_us;
        governor.token_done({.us = token_us, .missing = 10});
        us += token_us;
        lost_us += token_us - best_us;
      };
      while (governor.n_trial() == 0) token();
      while (governor.now() == governor.verdict()) token();
      EXPECT_EQ(governor.verdict() != Prefetching::kOff, percent < 0);
      EXPECT_LE(static_cast<double>(lost_us), 1.01 * PrefetchGovernor::kPrice * static_cast<double>(us))
          << percent << " %, " << compute_us << " us";
      EXPECT_GE(static_cast<double>(lost_us), 0.4 * PrefetchGovernor::kPrice * static_cast<double>(us))
          << percent << " %, " << compute_us << " us";
    }
  }
}

TEST(PrefetchGovernor, LooksAgainWhenFarMoreExpertsAreMissing) {
  PrefetchGovernor governor;
  const Machine machine;
  for (int i = 0; i < 20'000; ++i) governor.token_done(machine.run(governor.now(), 0));
  ASSERT_EQ(governor.verdict(), Prefetching::kOff);
  int n = 0;
  for (; governor.verdict() == Prefetching::kOff && n < 10'000; ++n)
    governor.token_done(machine.run(governor.now(), 20));
  // What was seen before the change counts no more, or this would have taken another trial against few.
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
        governor.token_done({.us = us(random) - (gains && is_on(governor) ? 900 : 0), .missing = 10});
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
    on += governor.verdict() != Prefetching::kOff ? 1 : 0;
  }
  // 33 are to be expected: one in six is better than half a standard error and 2 % of a token.
  EXPECT_LT(on, 50);
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
        for (int k = 0; k < n; ++k) stall += wait(random) * (is_on(governor) ? percent : 100) / 100;
        governor.token_done({.us = 1000 + stall, .missing = static_cast<uint64_t>(n)});
      }
      right += (governor.verdict() != Prefetching::kOff) == (percent < 100) ? 1 : 0;
    }
    EXPECT_GE(right, percent < 100 ? 45 : 48) << percent;
  }
}

}  // namespace
}  // namespace odmoe
