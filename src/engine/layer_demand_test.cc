#include "engine/layer_demand.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

MATCHER_P2(Pair, column, rank, "") { return arg.column == column && arg.rank == rank; }

TEST(LayerDemand, PairsAreByExpertWithTokensInTheirOrder) {
  LayerDemand demand(5, 2, 3);
  demand.set(7, std::array{4, 1, 1, 3, 4, 3}, std::array{0, 1, 2});
  EXPECT_EQ(demand.layer(), 7);
  EXPECT_EQ(demand.n_token(), 3);
  EXPECT_EQ(demand.n_expert(), 5);
  EXPECT_THAT(demand.experts(), ElementsAre(4, 1, 3));
  EXPECT_THAT(demand.pairs(4), ElementsAre(Pair(0, 0), Pair(2, 0)));
  EXPECT_THAT(demand.pairs(1), ElementsAre(Pair(0, 1), Pair(1, 0)));
  EXPECT_THAT(demand.pairs(3), ElementsAre(Pair(1, 1), Pair(2, 1)));
  EXPECT_THAT(demand.pairs(0), IsEmpty());
}

TEST(LayerDemand, TokensAreWhereTheirColumnsSay) {
  LayerDemand demand(3, 1, 4);
  demand.set(0, std::array{2, 2}, std::array{3, 1});
  EXPECT_THAT(demand.pairs(2), ElementsAre(Pair(3, 0), Pair(1, 0)));
}

TEST(LayerDemand, WhatWasWantedBeforeIsForgotten) {
  LayerDemand demand(3, 1, 2);
  demand.set(0, std::array{0, 1}, std::array{0, 1});
  demand.set(1, std::array{2}, std::array{0});
  EXPECT_THAT(demand.experts(), ElementsAre(2));
  EXPECT_THAT(demand.pairs(0), IsEmpty());
  EXPECT_THAT(demand.pairs(2), ElementsAre(Pair(0, 0)));
}

}  // namespace
}  // namespace odmoe
