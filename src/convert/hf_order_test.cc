#include "convert/hf_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(HfOrder, HalvesBecomePairsBehindWhatDoesNotRotate) {
  // Two heads of two rows that stay and four that rotate.
  EXPECT_THAT(hf_rope_pairs(12, 6, 2), ElementsAre(0, 1, 2, 4, 3, 5, 6, 7, 8, 10, 9, 11));
}

TEST(HfOrder, EverySecondBeginsWithTheFirst) { EXPECT_THAT(hf_every_second(3), ElementsAre(0, 2, 4)); }

TEST(HfOrder, ValueHeadsAreDealtOutInTurn) {
  // Key heads 0 and 1 have value heads 0, 1, 2 and 3, 4, 5.
  EXPECT_THAT(hf_heads_in_turn(2, 6), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(hf_heads_in_turn(4, 4), IsEmpty());
}

TEST(HfOrder, HeadsTakeTheirElementsAlong) {
  EXPECT_THAT(hf_order_of_heads({1, 0}, 2, 3), ElementsAre(0, 1, 2, 5, 6, 3, 4));
  EXPECT_THAT(hf_order_of_heads({}, 2, 3), IsEmpty());
}

TEST(HfOrder, PartsOfGroupsAreGathered) {
  std::vector<int64_t> order;
  hf_append_parts(order, 2, 5, 0, 1);
  hf_append_parts(order, 2, 5, 3, 2);
  EXPECT_THAT(order, ElementsAre(0, 5, 3, 4, 8, 9));
}

}  // namespace
}  // namespace odmoe
