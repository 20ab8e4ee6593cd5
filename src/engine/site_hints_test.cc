#include "engine/site_hints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class HintedSite final : public ExpertSite {
 public:
  Status begin(const ExpertWork& /*work*/) override { return {}; }
  Result<std::optional<DemandPair>> finish() override { return std::nullopt; }
  void abandon() override {}
  void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) override {
    told.assign(experts.begin(), experts.end());
    told_depth = depth;
  }
  void warm(std::span<const ExpertKey> /*experts*/) override {}
  Result<Warmth> warmed() override { return Warmth{}; }
  std::vector<ExpertKey> told;
  PrefetchDepth told_depth = PrefetchDepth::kFew;
};

TEST(SiteHints, EachSiteIsToldOfItsOwnExpertsInTheirOrderAndOfNoneWhereThereAreNone) {
  const std::array layers = {2, 5};
  ExpertOwners owners(layers, 4);
  owners.add_site({});
  owners.add_site([](int layer, int32_t expert) { return layer == 5 && expert >= 2; });
  HintedSite first, second;
  SiteHints hints(layers, owners, {&first, &second});
  hints.hint(std::array{ExpertKey{5, 3}, ExpertKey{2, 3}, ExpertKey{5, 0}, ExpertKey{5, 2}},
             PrefetchDepth::kMany);
  EXPECT_THAT(first.told, ElementsAre(ExpertKey{2, 3}, ExpertKey{5, 0}));
  EXPECT_THAT(second.told, ElementsAre(ExpertKey{5, 3}, ExpertKey{5, 2}));
  EXPECT_EQ(second.told_depth, PrefetchDepth::kMany);
  hints.change(std::array{ExpertOwners::Owns([](int, int32_t expert) { return expert == 3; })});
  hints.hint(std::array{ExpertKey{5, 3}, ExpertKey{5, 2}}, PrefetchDepth::kMany);
  EXPECT_THAT(first.told, ElementsAre(ExpertKey{5, 2}));
  EXPECT_THAT(second.told, ElementsAre(ExpertKey{5, 3}));
  hints.hint(std::array{ExpertKey{2, 1}}, PrefetchDepth::kFew);
  EXPECT_THAT(first.told, ElementsAre(ExpertKey{2, 1}));
  EXPECT_THAT(second.told, IsEmpty());
}

}  // namespace
}  // namespace odmoe
