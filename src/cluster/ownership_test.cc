#include "cluster/ownership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;

OwnershipFacts facts_of(std::vector<OwnershipFacts::Rank> ranks) {
  OwnershipFacts facts;
  for (int layer = 3; layer < 13; ++layer) facts.expert_layers.push_back(layer);
  facts.n_expert = 64;
  facts.expert_bytes = 640 * kGiB;
  facts.ranks = std::move(ranks);
  return facts;
}

std::vector<int32_t> owned(const OwnershipFacts& facts) {
  const Ownership ownership = Ownership::of(facts);
  std::vector<int32_t> counts;
  for (size_t i = 0; i < facts.ranks.size(); ++i) counts.push_back(ownership.n_owned(static_cast<int>(i)));
  return counts;
}

std::vector<int> counts_in_layer(const Ownership& ownership, const OwnershipFacts& facts, size_t index) {
  std::vector<int> counts(facts.ranks.size());
  for (int32_t e = 0; e < facts.n_expert; ++e) ++counts[static_cast<size_t>(ownership.owner(index, e))];
  return counts;
}

TEST(Ownership, OneRankOwnsEverything) { EXPECT_THAT(owned(facts_of({{0, 0}})), ElementsAre(640)); }

TEST(Ownership, WhereAllFitsSharesAreThoseOfTheMemory) {
  EXPECT_THAT(owned(facts_of({{320 * kGiB, 0}, {640 * kGiB, 0}, {320 * kGiB, 9}})),
              ElementsAre(160, 320, 160));
}

TEST(Ownership, WhatNobodyCanHoldGoesByTheDrives) {
  // 64 + 64 GiB are held; of the other 512 the first drive reads a quarter.
  EXPECT_THAT(owned(facts_of({{64 * kGiB, 2 * kGiB}, {64 * kGiB, 6 * kGiB}})), ElementsAre(192, 448));
  // A drive that is not known: all are taken for the same.
  EXPECT_THAT(owned(facts_of({{64 * kGiB, 2 * kGiB}, {64 * kGiB, 0}})), ElementsAre(320, 320));
}

TEST(Ownership, EachLayerIsDividedInTheSharesAndRoundingIsMadeGood) {
  const OwnershipFacts facts = facts_of({{1, 1}, {1, 1}, {1, 1}});
  const Ownership ownership = Ownership::of(facts);
  for (size_t index = 0; index < facts.expert_layers.size(); ++index) {
    for (const int count : counts_in_layer(ownership, facts, index)) {
      EXPECT_GE(count, 21);
      EXPECT_LE(count, 22);
    }
  }
  for (const int32_t count : owned(facts)) {
    EXPECT_GE(count, 213);
    EXPECT_LE(count, 214);
  }
}

TEST(Ownership, RanksTakeTurnsWithinALayer) {
  OwnershipFacts facts = facts_of({{1, 1}, {1, 1}});
  facts.n_expert = 6;
  const Ownership ownership = Ownership::of(facts);
  std::vector<int> owners;
  for (int32_t e = 0; e < 6; ++e) owners.push_back(ownership.owner(0, e));
  EXPECT_THAT(owners, ElementsAre(0, 1, 0, 1, 0, 1));
}

TEST(Ownership, WhereUsesAreKnownEachGetsItsShareOfThem) {
  OwnershipFacts facts = facts_of({{1, 1}, {1, 1}});
  facts.expert_layers = {0};
  facts.n_expert = 6;
  facts.uses = {100, 90, 5, 4, 3, 2};
  const Ownership ownership = Ownership::of(facts);
  EXPECT_NE(ownership.owner(0, 0), ownership.owner(0, 1));
  EXPECT_THAT(counts_in_layer(ownership, facts, 0), ElementsAre(3, 3));
}

TEST(Ownership, RanksWithoutMemoryOrManyRanksAreNoException) {
  EXPECT_THAT(owned(facts_of({{0, 0}, {640 * kGiB, 0}})), ElementsAre(0, 640));
  OwnershipFacts facts = facts_of({});
  facts.ranks.resize(255, {kMiB, 1});
  int32_t sum = 0;
  for (const int32_t count : owned(facts)) sum += count;
  EXPECT_EQ(sum, 640);
}

TEST(Ownership, TheFingerprintIsThatOfTheOwnersAlone) {
  const OwnershipFacts facts = facts_of({{1, 1}, {1, 1}});
  OwnershipFacts doubled = facts_of({{2, 7}, {2, 7}});
  EXPECT_EQ(Ownership::of(facts).fingerprint(), Ownership::of(doubled).fingerprint());
  doubled.ranks[1].memory_bytes = doubled.expert_bytes;
  EXPECT_NE(Ownership::of(facts).fingerprint(), Ownership::of(doubled).fingerprint());
}

}  // namespace
}  // namespace odmoe
