#include "engine/expert_owners.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ExpertOwners, TheFirstSiteOwnsWhatNoLaterOneTakesOver) {
  ExpertOwners owners(std::array{1, 2}, 4);
  owners.add_site({});
  EXPECT_THAT(owners.share(0, 1, std::array{3, 0}), ElementsAre(3, 0));
  owners.add_site([](int layer, int32_t expert) { return layer == 2 && expert % 2 == 1; });
  EXPECT_EQ(owners.n_site(), 2);
  EXPECT_THAT(owners.experts(0, 0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(owners.experts(1, 0), IsEmpty());
  EXPECT_THAT(owners.experts(0, 1), ElementsAre(0, 2));
  EXPECT_THAT(owners.experts(1, 1), ElementsAre(1, 3));
}

TEST(ExpertOwners, SharesKeepTheOrderAndEachExpertIsInOne) {
  ExpertOwners owners(std::array{0}, 5);
  owners.add_site({});
  owners.add_site([](int, int32_t expert) { return expert >= 3; });
  owners.add_site([](int, int32_t expert) { return expert == 4 || expert == 0; });
  const std::array wanted = {4, 2, 0, 3};
  EXPECT_THAT(owners.share(0, 0, wanted), ElementsAre(2));
  EXPECT_THAT(owners.share(1, 0, wanted), ElementsAre(3));
  EXPECT_THAT(owners.share(2, 0, wanted), ElementsAre(4, 0));
}

TEST(ExpertOwners, CanBeOthersFromThenOn) {
  const std::array layers = {1, 4};
  ExpertOwners owners(layers, 4);
  owners.add_site({});
  owners.add_site([](int, int32_t expert) { return expert == 1; });
  owners.add_site([](int, int32_t expert) { return expert == 2; });
  owners.change(
      std::array{ExpertOwners::Owns([](int, int32_t) { return false; }),
                 ExpertOwners::Owns([](int layer, int32_t expert) { return layer == 4 && expert > 1; })});
  EXPECT_THAT(owners.experts(0, 0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(owners.experts(0, 1), ElementsAre(0, 1));
  EXPECT_THAT(owners.experts(1, 1), IsEmpty());
  EXPECT_THAT(owners.experts(2, 1), ElementsAre(2, 3));
  EXPECT_EQ(owners.site_of_layer(4, 3), 2);
  EXPECT_THAT(owners.share(2, 1, std::array{3, 0, 2}), ElementsAre(3, 2));
}

}  // namespace
}  // namespace odmoe
