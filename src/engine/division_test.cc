#include "odmoe/division.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using Stretch = Division::Stretch;

constexpr int32_t kDividedChunk = 4;

// 0 4 8 10 | 11 12 13 | 17 19
Division conversation() {
  Division division(kDividedChunk);
  division.append(10, /*singly=*/false);
  division.append(2, /*singly=*/true);
  division.append(1, /*singly=*/true);
  division.append(6, /*singly=*/false);
  return division;
}

std::vector<int32_t> ends_in(const Division& division) {
  std::vector<int32_t> ends;
  for (int32_t at = 0; at < division.length();) ends.push_back(at = division.next(at));
  return ends;
}

void expect_stretches(const Division& division, std::vector<Stretch> wanted) {
  EXPECT_EQ(std::vector(division.stretches().begin(), division.stretches().end()), wanted);
}

TEST(DivisionTest, KnowsWhereEachEvaluationEnds) {
  EXPECT_THAT(ends_in(conversation()), ElementsAre(4, 8, 10, 11, 12, 13, 17, 19));
  EXPECT_EQ(conversation().length(), 19);
  EXPECT_EQ(Division(kDividedChunk).length(), 0);
  EXPECT_THAT(ends_in(Division::in_chunks(kDividedChunk, 9)), ElementsAre(4, 8, 9));
}

TEST(DivisionTest, ChunksGoOnBehindWholeOnesAndBeginAnewBehindOthers) {
  Division division(kDividedChunk);
  for (const int32_t n : {4, 4, 2, 4, 1}) division.append(n, /*singly=*/false);
  EXPECT_THAT(ends_in(division), ElementsAre(4, 8, 10, 14, 15));
  expect_stretches(division, {{.end = 10}, {.end = 15}});
}

TEST(DivisionTest, GoesBackToAnEvaluationsEnd) {
  for (const auto& [n, left] : std::vector<std::pair<int32_t, int32_t>>{
           {19, 19}, {40, 19}, {18, 17}, {16, 13}, {12, 12}, {10, 10}, {9, 8}, {3, 0}, {0, 0}}) {
    Division division = conversation();
    EXPECT_EQ(division.boundary(n), left);
    EXPECT_EQ(division.truncate(n), left);
    EXPECT_EQ(division.length(), left);
  }
  Division division = conversation();
  division.truncate(9);
  division.append(4, /*singly=*/false);
  EXPECT_THAT(ends_in(division), ElementsAre(4, 8, 12));
}

TEST(DivisionTest, TwoShareWhatBothDivideAlike) {
  const Division all = conversation();
  EXPECT_EQ(all.shared(all, 100), 19);
  EXPECT_EQ(all.shared(all, 18), 17);
  EXPECT_EQ(all.shared(Division::in_chunks(kDividedChunk, 30), 30), 8) << "then one has 10, the other 12";
  EXPECT_EQ(all.shared(Division::in_chunks(kDividedChunk, 10), 30), 10);
  Division longer = conversation();
  longer.truncate(13);
  longer.append(40, /*singly=*/false);
  EXPECT_EQ(all.shared(longer, 100), 17);
  EXPECT_EQ(longer.shared(all, 100), 17);
  EXPECT_EQ(all.shared(Division(kDividedChunk), 100), 0);
}

TEST(DivisionTest, ASingleTokenIsTheSameWhateverItIsCalled) {
  Division read(kDividedChunk), written(kDividedChunk);
  read.append(5, /*singly=*/false);
  written.append(4, /*singly=*/false);
  written.append(1, /*singly=*/true);
  EXPECT_EQ(read.shared(written, 100), 5);
  EXPECT_TRUE(read.is_single(4));
  EXPECT_FALSE(read.is_single(0));
}

TEST(DivisionTest, WholeChunksAreThoseFromTheFirstTokenOn) {
  EXPECT_EQ(conversation().whole_chunks(), 8);
  Division written(kDividedChunk);
  EXPECT_EQ(written.whole_chunks(), 0);
  written.append(9, /*singly=*/true);
  EXPECT_EQ(written.whole_chunks(), 0);
}

TEST(DivisionTest, StretchesThatAreNoneAreToldApart) {
  EXPECT_TRUE(Division::are_valid({}));
  const Division division = conversation();
  EXPECT_TRUE(Division::are_valid(division.stretches()));
  EXPECT_EQ(Division::of(kDividedChunk, division.stretches()), division);
  EXPECT_FALSE(Division::are_valid(std::vector<Stretch>{{.end = 0}}));
  EXPECT_FALSE(Division::are_valid(std::vector<Stretch>{{.end = 5}, {.end = 5, .singly = true}}));
  EXPECT_FALSE(Division::are_valid(std::vector<Stretch>{{.end = -5}}));
  EXPECT_FALSE(
      Division::are_valid(std::vector<Stretch>{{.end = 5, .singly = true}, {.end = 6, .singly = true}}));
}

}  // namespace
}  // namespace odmoe
