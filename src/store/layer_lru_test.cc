#include <gtest/gtest.h>

#include "store/residency_policy.h"

namespace odmoe {
namespace {

class LayerLruTest : public ::testing::Test {
 protected:
  // Three layers of four experts.
  void make(int32_t n_slot) {
    const std::vector<PolicyLayer> layers = {{3, 4}, {4, 4}, {7, 4}};
    policy_ = make_layer_lru(layers, n_slot);
  }
  void admit(int layer, std::initializer_list<int32_t> experts) {
    for (const int32_t expert : experts) {
      policy_->admit({layer, expert});
      policy_->set_held({layer, expert}, false);
    }
  }
  std::unique_ptr<ResidencyPolicy> policy_;
};

using Key = std::optional<ExpertKey>;

TEST_F(LayerLruTest, SharesAreEqualAddUpAndNeverExceedTheExperts) {
  make(7);
  EXPECT_EQ(policy_->share(3), 3);
  EXPECT_EQ(policy_->share(4), 2);
  EXPECT_EQ(policy_->share(7), 2);
  const std::vector<PolicyLayer> uneven = {{0, 1}, {1, 9}};
  policy_ = make_layer_lru(uneven, 6);
  EXPECT_EQ(policy_->share(0), 1);
  EXPECT_EQ(policy_->share(1), 5);
}

TEST_F(LayerLruTest, ALayerWithItsShareEvictsItsOwnLeastRecentlyUsed) {
  make(6);
  admit(3, {0, 1});
  admit(4, {0, 1});
  policy_->use({4, 0});
  EXPECT_EQ(policy_->victim(4, Reach::kShare), Key(ExpertKey{4, 1}));
  policy_->use({4, 1});
  EXPECT_EQ(policy_->victim(4, Reach::kShare), Key(ExpertKey{4, 0}));
}

TEST_F(LayerLruTest, ALayerBelowItsShareTakesFromTheOneMostAbove) {
  make(6);
  admit(3, {0, 1, 2});
  admit(4, {0, 1, 2, 3});
  EXPECT_EQ(policy_->victim(7, Reach::kShare), Key(ExpertKey{4, 0}));
  policy_->remove({4, 0});
  policy_->remove({4, 1});
  EXPECT_EQ(policy_->victim(7, Reach::kShare), Key(ExpertKey{3, 0}));
}

TEST_F(LayerLruTest, NoLayerIsPushedBelowItsShareByOneThatCanDoWithout) {
  make(6);
  admit(3, {0, 1});
  admit(4, {0, 1});
  for (const int32_t expert : {0, 1}) policy_->set_held({4, expert}, true);
  EXPECT_EQ(policy_->victim(4, Reach::kShare), std::nullopt);
  EXPECT_EQ(policy_->victim(4, Reach::kBorrow), Key(ExpertKey{3, 0}));
}

TEST_F(LayerLruTest, BorrowingTakesFromLayersAboveTheirShareBeforeTheLayerBefore) {
  make(6);
  admit(3, {0, 1});
  admit(7, {0, 1, 2});
  admit(4, {0, 1});
  for (const int32_t expert : {0, 1}) policy_->set_held({4, expert}, true);
  EXPECT_EQ(policy_->victim(4, Reach::kBorrow), Key(ExpertKey{7, 0}));
  policy_->remove({7, 0});
  EXPECT_EQ(policy_->victim(4, Reach::kBorrow), Key(ExpertKey{3, 0}));
  policy_->use({3, 0});
  EXPECT_EQ(policy_->victim(4, Reach::kBorrow), Key(ExpertKey{3, 1}));
  for (const int32_t expert : {0, 1}) policy_->set_held({3, expert}, true);
  EXPECT_EQ(policy_->victim(4, Reach::kBorrow), Key(ExpertKey{7, 1}));
}

TEST_F(LayerLruTest, HeldExpertsAreNeverVictims) {
  make(3);
  admit(3, {0});
  admit(4, {0});
  admit(7, {0});
  for (const int layer : {3, 4, 7}) policy_->set_held({layer, 0}, true);
  for (const Reach reach : {Reach::kShare, Reach::kBorrow})
    EXPECT_EQ(policy_->victim(3, reach), std::nullopt);
  policy_->set_held({7, 0}, false);
  EXPECT_EQ(policy_->victim(3, Reach::kBorrow), Key(ExpertKey{7, 0}));
}

TEST_F(LayerLruTest, WithFewerSlotsThanLayersEveryLayerStillFindsOne) {
  make(2);
  admit(3, {0});
  admit(4, {0});
  EXPECT_EQ(policy_->share(7), 0);
  EXPECT_EQ(policy_->victim(7, Reach::kBorrow), Key(ExpertKey{4, 0}));
}

TEST_F(LayerLruTest, ResizingChangesTheSharesAndLeavesTheMembers) {
  make(12);
  admit(3, {0, 1, 2, 3});
  admit(4, {0, 1});
  policy_->resize(6);
  EXPECT_EQ(policy_->share(3), 2);
  EXPECT_EQ(policy_->n_member(3), 4);
  EXPECT_EQ(policy_->victim(3, Reach::kShare), Key(ExpertKey{3, 0}));
  EXPECT_EQ(policy_->victim(7, Reach::kShare), Key(ExpertKey{3, 0}));
  policy_->resize(9);
  EXPECT_EQ(policy_->share(7), 3);
}

TEST_F(LayerLruTest, MembersAreCounted) {
  make(6);
  admit(3, {0, 1});
  EXPECT_EQ(policy_->n_member(3), 2);
  policy_->remove({3, 0});
  EXPECT_EQ(policy_->n_member(3), 1);
  EXPECT_EQ(policy_->n_member(4), 0);
}

}  // namespace
}  // namespace odmoe
