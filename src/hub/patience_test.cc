#include "hub/patience.h"

#include <gtest/gtest.h>

namespace odmoe::hub {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Patience, PausesGrowAndHaveABound) {
  Patience patience({.tries = 8});
  for (const int pause : {0, 1, 2, 4, 8, 16, 30, 30}) EXPECT_EQ(patience.fail(), seconds(pause));
  EXPECT_EQ(patience.fail(), std::nullopt);
}

TEST(Patience, WhatComesMakesEarlierFailuresForgotten) {
  Patience patience({.tries = 2});
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(patience.fail(), seconds(0));
    EXPECT_EQ(patience.fail(), seconds(1));
    patience.succeed();
  }
}

TEST(Patience, AServerSaysHowLongToWaitWithinBounds) {
  Patience patience({.waits = 3, .longest_wait = seconds(60)});
  EXPECT_EQ(patience.be_told_to_wait(seconds(5)), seconds(5));
  EXPECT_EQ(patience.be_told_to_wait(seconds(60)), seconds(60));
  EXPECT_EQ(patience.be_told_to_wait(seconds(61)), std::nullopt);
  EXPECT_EQ(patience.be_told_to_wait(seconds(1)), std::nullopt);
  EXPECT_EQ(Patience({}).fail(seconds(7)), seconds(7));
  EXPECT_EQ(Patience({}).fail(seconds(7777)), std::nullopt);
}

TEST(Patience, AServerThatDoesNotSayIsGivenGrowingPauses) {
  Patience patience({.tries = 3});
  EXPECT_EQ(patience.be_told_to_wait({}), seconds(1));
  EXPECT_EQ(patience.be_told_to_wait({}), seconds(1));
  EXPECT_EQ(patience.be_told_to_wait({}), seconds(2));
  EXPECT_EQ(patience.be_told_to_wait({}), std::nullopt);
}

}  // namespace
}  // namespace odmoe::hub
