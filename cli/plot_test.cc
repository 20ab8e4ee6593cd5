#include "cli/plot.h"

#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

TEST(BarChart, TheLargestFillsTheColumnsAndTheOthersAreInProportion) {
  EXPECT_EQ(bar_chart({{"1", 10, "ten"}, {"16", 40, "forty"}}, 4),
            "   1 █    ten\n"
            "  16 ████ forty\n");
}

TEST(BarChart, PartsOfACharacterAreDrawn) {
  EXPECT_EQ(bar_chart({{"a", 3, ""}, {"b", 16, ""}}, 2), "  a ▍  \n  b ██ \n");
}

TEST(BarChart, WhatIsSmallShowsAndNothingDoesNot) {
  EXPECT_EQ(bar_chart({{"a", 1, ""}, {"b", 0, ""}, {"c", 1e6, ""}}, 1), "  a ▏ \n  b   \n  c █ \n");
  EXPECT_EQ(bar_chart({{"a", 0, ""}}, 3), "  a     \n");
}

}  // namespace
}  // namespace odmoe::cli
