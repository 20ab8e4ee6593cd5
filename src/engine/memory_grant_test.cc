#include "engine/memory_grant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/units.h"

namespace odmoe {
namespace {

// A machine on which this process holds all that it is granted.
class MemoryGrantTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kMargin = 512 * kMiB;
  static constexpr uint64_t kLeast = kGiB;
  static constexpr uint64_t kMost = 8 * kGiB;

  // `seconds` of samples ten times a second with this much for the process and what is available together.
  // Returns the grants.
  std::vector<uint64_t> pass(double seconds, uint64_t all, uint64_t stall_us_per_sample = 0) {
    std::vector<uint64_t> grants;
    for (int i = 0; i < static_cast<int>(seconds * 10); ++i) {
      now_us_ += 100'000;
      stall_us_ += stall_us_per_sample;
      const uint64_t resident = std::min(grant_.bytes(), all);
      grants.push_back(grant_.next({.now_us = now_us_,
                                    .available_bytes = all - resident,
                                    .resident_bytes = resident,
                                    .stall_us = stall_us_}));
    }
    return grants;
  }

  MemoryGrant grant_{4 * kGiB, kLeast, kMost, kMargin};
  int64_t now_us_ = 123'000'000;
  uint64_t stall_us_ = 77'000'000;
};

TEST_F(MemoryGrantTest, NothingChangesWhileTheMachineDoesNot) {
  const auto grants = pass(60, 4 * kGiB + kMargin);
  EXPECT_TRUE(std::ranges::all_of(grants, [](uint64_t g) { return g == 4 * kGiB; }));
}

TEST_F(MemoryGrantTest, WhatOthersTakeIsGivenUpWithTheFirstSample) {
  pass(1, 4 * kGiB + kMargin);
  EXPECT_EQ(pass(0.1, 3 * kGiB + kMargin).back(), 3 * kGiB);
}

TEST_F(MemoryGrantTest, LessThanAQuarterOfTheMarginIsNoReason) {
  EXPECT_EQ(pass(5, 4 * kGiB + kMargin - kMargin / 4).back(), 4 * kGiB);
  EXPECT_EQ(pass(0.1, 4 * kGiB + kMargin - kMargin / 4 - 1).back(), 4 * kGiB - kMargin / 4 - 1);
}

TEST_F(MemoryGrantTest, ItNeverFallsBelowWhatTheModelNeedsNorRisesAboveWhatItCanUse) {
  EXPECT_EQ(pass(1, 100 * kMiB).back(), kLeast);
  EXPECT_EQ(pass(60, 100 * kGiB).back(), kMost);
}

TEST_F(MemoryGrantTest, FreeMemoryIsTakenAfterPatienceAndInSteps) {
  const auto grants = pass(20, 8 * kGiB + kMargin);
  EXPECT_EQ(grants[28], 4 * kGiB) << "before three seconds have passed";
  uint64_t before = 4 * kGiB;
  int rises = 0;
  int since = 10;
  for (const uint64_t grant : grants) {
    ++since;
    if (grant == before) continue;
    EXPECT_LE(grant, before + before / 8);
    EXPECT_GE(since, 10) << "less than a second after the last rise";
    before = grant;
    since = 0;
    ++rises;
  }
  EXPECT_GT(rises, 3);
  EXPECT_EQ(grants.back(), 8 * kGiB - kMargin / 4);
}

TEST_F(MemoryGrantTest, MemoryThatIsFreeForAMomentIsNotTaken) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(pass(2.5, 8 * kGiB).back(), 4 * kGiB);
    EXPECT_EQ(pass(0.5, 4 * kGiB + kMargin).back(), 4 * kGiB);
  }
}

TEST_F(MemoryGrantTest, ANeighbourThatSwingsMakesItShrinkOnceNotOscillate) {
  int changes = 0;
  uint64_t before = grant_.bytes();
  for (int i = 0; i < 100; ++i) {
    for (const uint64_t all : {3 * kGiB, 4 * kGiB}) {
      for (const uint64_t grant : pass(1, all)) {
        changes += grant != before ? 1 : 0;
        before = grant;
      }
    }
  }
  EXPECT_EQ(changes, 1);
  EXPECT_EQ(before, 3 * kGiB - kMargin);
}

TEST_F(MemoryGrantTest, AfterARiseTheSameMachineDoesNotMakeItFall) {
  const auto grants = pass(120, 6 * kGiB);
  EXPECT_TRUE(std::ranges::is_sorted(grants));
}

TEST_F(MemoryGrantTest, TasksThatWaitForMemoryShrinkItSlowlyWhereMemoryIsShort) {
  const auto grants = pass(1, 4 * kGiB + kMargin, 50'000);
  EXPECT_EQ(grants.front(), 4 * kGiB) << "one sample tells no rate";
  EXPECT_EQ(grants[1], 4 * kGiB - 256 * kMiB);
  EXPECT_EQ(grants.back(), grants[1]) << "once a second";
}

TEST_F(MemoryGrantTest, TasksThatWaitWhileMemoryIsAmpleOnlyPreventGrowth) {
  EXPECT_EQ(pass(30, 8 * kGiB, 50'000).back(), 4 * kGiB);
  EXPECT_GT(pass(30, 8 * kGiB, 5'000).back(), 4 * kGiB) << "a twentieth of the time is not much";
}

}  // namespace
}  // namespace odmoe
