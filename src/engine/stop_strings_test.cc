#include "engine/stop_strings.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace odmoe {
namespace {

TEST(StopStrings, TextBeforeTheStopIsShownAndNothingOfItOrAfter) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.push("one END two"), "one ");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.push("three"), "");
  EXPECT_EQ(stops.finish(), "");
}

TEST(StopStrings, AStopSplitOverPiecesIsFound) {
  StopStrings stops({"</s>"});
  EXPECT_EQ(stops.push("a<"), "a");
  EXPECT_EQ(stops.push("/"), "");
  EXPECT_EQ(stops.push("s>b"), "");
  EXPECT_TRUE(stops.stopped());
}

TEST(StopStrings, AFalseBeginningIsShownOnceItIsOne) {
  StopStrings stops({"</s>", "<<x"});
  EXPECT_EQ(stops.push("a<<"), "a");
  EXPECT_EQ(stops.push("/s"), "<");
  EXPECT_EQ(stops.push("z"), "</sz");
  EXPECT_EQ(stops.push("<"), "");
  EXPECT_EQ(stops.finish(), "<");
}

TEST(StopStrings, TheEarliestOfSeveralWins) {
  StopStrings stops({"late", "ear"});
  EXPECT_EQ(stops.push("an "), "an ");
  EXPECT_EQ(stops.found(), "");
  EXPECT_EQ(stops.push("early late one"), "");
  EXPECT_EQ(stops.found(), "ear");
}

TEST(StopStrings, AnEmptyStopStopsNothing) {
  StopStrings stops({""});
  EXPECT_EQ(stops.push("text"), "text");
  EXPECT_FALSE(stops.stopped());
}

TEST(StopStrings, FindsTheFirstOfThemHoweverTheTextIsCut) {
  std::mt19937 random(1);
  const auto word = [&](size_t longest) {
    std::string text(1 + random() % longest, 'a');
    for (char& c : text) c = static_cast<char>('a' + random() % 2);
    return text;
  };
  size_t n_stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> all(1 + random() % 3);
    for (std::string& stop : all) stop = word(8);
    const std::string text = word(60);
    size_t first = std::string::npos;
    for (const std::string& stop : all) first = std::min(first, text.find(stop));
    StopStrings stops(all);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + random() % 5;
      shown += stops.push(std::string_view(text).substr(at, n));
      at += n;
    }
    shown += stops.finish();
    ASSERT_EQ(stops.stopped(), first != std::string::npos) << text;
    // What comes in one piece with a later stop string may hold an earlier one: the earliest counts, as far
    // as nothing was shown.
    if (first == std::string::npos) {
      ASSERT_EQ(shown, text);
      continue;
    }
    ++n_stopped;
    ASSERT_TRUE(text.starts_with(shown)) << text;
    for (const std::string& stop : all) ASSERT_FALSE(shown.contains(stop)) << text << ": " << stop;
  }
  EXPECT_GT(n_stopped, 500);
}

// By comparing every beginning with every end this would be hours of work.
TEST(StopStrings, LongOnesThatAlmostMatchAreOrdinaryWork) {
  std::vector<std::string> all;
  for (int i = 0; i < 16; ++i) all.push_back(std::string(20'000, 'a') + static_cast<char>('b' + i));
  StopStrings stops(all);
  size_t shown = 0;
  for (int i = 0; i < 100'000; ++i) shown += stops.push("a").size();
  EXPECT_EQ(shown, 80'000);
}

}  // namespace
}  // namespace odmoe
