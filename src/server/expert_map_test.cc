#include "server/expert_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;

TEST(ExpertMap, ALetterSaysWhereAnExpertIsAndWhetherItWasJustAskedFor) {
  const auto letter = [](Residency residency, uint32_t uses, uint32_t of_late) {
    return expert_letter({.residency = residency, .uses = uses}, of_late, 1);
  };
  EXPECT_EQ(letter(Residency::kAbsent, 0, 0), 'a');
  EXPECT_EQ(letter(Residency::kAbsent, 3, 0), 'e');
  EXPECT_EQ(letter(Residency::kAbsent, 4, 1), 'E');
  EXPECT_EQ(letter(Residency::kLoading, 0, 0), 'l');  // for a guess
  EXPECT_EQ(letter(Residency::kLoading, 1, 1), 'L');
  EXPECT_EQ(letter(Residency::kResident, 5, 0), 'r');
  EXPECT_EQ(letter(Residency::kResident, 6, 1), 'R');
}

TEST(ExpertMap, ThoseAskedForLessThanHalfAsOftenAsTheBusiestHaveLettersOfTheirOwn) {
  const auto letter = [](uint32_t of_late) {
    return expert_letter({.residency = Residency::kResident, .uses = 90}, of_late, 9);
  };
  EXPECT_EQ(letter(9), 'R');
  EXPECT_EQ(letter(5), 'R');
  EXPECT_EQ(letter(4), 'S');
  EXPECT_EQ(letter(1), 'S');
  EXPECT_EQ(letter(0), 'r');
  EXPECT_EQ(expert_letter({.residency = Residency::kLoading, .uses = 90}, 1, 9), 'M');
  EXPECT_EQ(expert_letter({.residency = Residency::kAbsent, .uses = 90}, 1, 9), 'F');
  for (const char any : std::string_view("aelrELRFMS")) EXPECT_TRUE(is_expert_letter(at_rest(any))) << any;
}

TEST(ExpertMap, ChangesAreLettersAndHowManyArePassedOver) {
  EXPECT_EQ(map_changes("rrrr", "rrLe"), "2Le");
  EXPECT_EQ(map_changes("aaaaaaaaaaaar", "aaaaaaaaaaaaR"), "12R");
  EXPECT_EQ(map_changes("Rr", "rr"), "");   // came to rest by itself
  EXPECT_EQ(map_changes("Rr", "Rr"), "R");  // again
  EXPECT_EQ(map_changes("", ""), "");
}

TEST(ExpertMap, WhoAppliesTheChangesHasTheSameMap) {
  std::mt19937 random(7);
  constexpr std::string_view kLetters = "aelrELRFMS";
  std::string letters(500, 'a'), theirs = letters;
  for (int round = 0; round < 50; ++round) {
    std::string now = letters;
    for (char& letter : now) letter = at_rest(letter);
    for (unsigned i = 0; i < random() % 60; ++i)
      now[random() % now.size()] = kLetters[random() % kLetters.size()];
    ASSERT_TRUE(apply_map_changes(map_changes(letters, now), theirs).has_value());
    ASSERT_EQ(theirs, now);
    letters = now;
  }
}

TEST(ExpertMap, DamagedChangesAreRefusedAndLeaveLettersBehind) {
  for (const char* damaged : {"5", "4r", "rrrrr", "x", "A", "1-2r", "99999999999999999999r", "2rr3"}) {
    std::string letters = "RLea";
    const Status status = apply_map_changes(damaged, letters);
    ASSERT_FALSE(status.has_value()) << damaged;
    EXPECT_THAT(status.error().message, HasSubstr("map of experts"));
    EXPECT_EQ(letters.size(), 4U);
    for (const char letter : letters) EXPECT_TRUE(is_expert_letter(letter));
  }
}

}  // namespace
}  // namespace odmoe::server
