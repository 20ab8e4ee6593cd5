// What every residency policy promises, and what each does of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "store/residency_policy.h"

namespace odmoe {
namespace {

constexpr std::array kAll = {PolicyKind::kForecast, PolicyKind::kLru, PolicyKind::kLayerLru, PolicyKind::kLfu,
                             PolicyKind::kLfuAging};
using Key = std::optional<ExpertKey>;

// Three layers of four experts, two of which are used.
class PolicyTest : public ::testing::Test {
 protected:
  void make(PolicyKind kind, int32_t n_slot) {
    const std::vector<PolicyLayer> layers = {{3, 4}, {4, 4}, {7, 4}};
    policy_ = make_policy(kind, layers, n_slot, 2);
  }
  // A token's choice in a layer, of experts that are all members or become such.
  void choose(int layer, std::vector<int32_t> experts) {
    const std::vector<float> weights(experts.size(), 0.5F);
    policy_->observe(layer, experts, weights);
    for (const int32_t expert : experts) {
      if (!std::ranges::contains(members_, ExpertKey{layer, expert})) {
        policy_->admit({layer, expert});
        members_.push_back({layer, expert});
      }
      policy_->use({layer, expert});
      policy_->set_held({layer, expert}, false);
    }
  }
  Key evict(int layer, Reach reach = Reach::kBorrow) {
    const Key victim = policy_->victim(layer, reach);
    if (victim.has_value()) {
      policy_->remove(*victim);
      std::erase(members_, *victim);
    }
    return victim;
  }
  std::unique_ptr<ResidencyPolicy> policy_;
  std::vector<ExpertKey> members_;
};

class EveryPolicy : public PolicyTest, public ::testing::WithParamInterface<PolicyKind> {};

TEST_P(EveryPolicy, HeldMembersAreNeverVictims) {
  make(GetParam(), 6);
  for (const int layer : {3, 4, 7}) choose(layer, {0, 1});
  for (const ExpertKey key : members_) policy_->set_held(key, true);
  for (const Reach reach : {Reach::kShare, Reach::kBorrow}) {
    EXPECT_EQ(policy_->victim(3, reach), std::nullopt);
  }
  policy_->set_held({4, 1}, false);
  EXPECT_EQ(policy_->victim(3, Reach::kBorrow), (Key{{4, 1}}));
}

TEST_P(EveryPolicy, WithinItsShareALayerPaysForItself) {
  make(GetParam(), 6);
  for (const int layer : {3, 4, 7}) choose(layer, {0, 1});
  for (const int layer : {7, 3, 4}) EXPECT_EQ(policy_->victim(layer, Reach::kShare)->layer, layer);
}

TEST_P(EveryPolicy, ALayerBelowItsShareTakesFromTheOneMostAbove) {
  make(GetParam(), 6);
  choose(3, {0, 1, 2});
  choose(4, {0, 1});
  choose(7, {0});
  EXPECT_EQ(policy_->victim(7, Reach::kShare)->layer, 3);
}

TEST_P(EveryPolicy, EveryMemberCanBeEvictedAndNoOther) {
  make(GetParam(), 6);
  for (const int layer : {3, 4, 7}) choose(layer, {2, 3});
  for (int i = 0; i < 6; ++i) EXPECT_NE(evict(4), std::nullopt);
  EXPECT_EQ(evict(4), std::nullopt);
  EXPECT_EQ(policy_->n_member(3) + policy_->n_member(4) + policy_->n_member(7), 0);
}

TEST_P(EveryPolicy, SharesFollowTheNumberOfSlots) {
  make(GetParam(), 6);
  EXPECT_EQ(policy_->share(3), 2);
  policy_->resize(4);
  EXPECT_EQ(policy_->share(3), 2);
  EXPECT_EQ(policy_->share(4), 1);
  EXPECT_EQ(policy_->share(7), 1);
  policy_->resize(100);
  EXPECT_EQ(policy_->share(3), 4);
}

TEST_P(EveryPolicy, TheSameCallsGiveTheSameVictims) {
  std::array<std::vector<ExpertKey>, 2> victims;
  for (auto& list : victims) {
    make(GetParam(), 6);
    members_.clear();
    uint32_t state = 1;
    for (int step = 0; step < 300; ++step) {
      const int layer = std::array{3, 4, 7}[static_cast<size_t>(step % 3)];
      state = state * 1664525 + 1013904223;
      const auto first = static_cast<int32_t>(state >> 30U);
      while (members_.size() > 4) list.push_back(*evict(layer));
      choose(layer, {first, (first + 1 + step % 2) % 4});
    }
  }
  EXPECT_GT(victims[0].size(), 100U);
  EXPECT_EQ(victims[0], victims[1]);
}

INSTANTIATE_TEST_SUITE_P(Policies, EveryPolicy, ::testing::ValuesIn(kAll),
                         [](const auto& kind) { return std::to_string(static_cast<int>(kind.param)); });

TEST_F(PolicyTest, LruEvictsTheLeastRecentlyUsedWhateverItsLayer) {
  make(PolicyKind::kLru, 6);
  for (const int layer : {3, 4, 7}) choose(layer, {0, 1});
  choose(3, {0});
  EXPECT_EQ(evict(7), (Key{{3, 1}}));
  EXPECT_EQ(evict(7), (Key{{4, 0}}));
}

TEST_F(PolicyTest, LfuEvictsTheLeastOftenUsedAndRemembersCounts) {
  make(PolicyKind::kLfu, 6);
  for (int i = 0; i < 3; ++i) choose(3, {0});
  for (int i = 0; i < 2; ++i) choose(4, {1});
  choose(7, {2});
  EXPECT_EQ(evict(7), (Key{{7, 2}}));
  EXPECT_EQ(evict(7), (Key{{4, 1}}));
  choose(4, {1});  // its third use
  choose(7, {2});  // its second
  EXPECT_EQ(evict(7), (Key{{7, 2}}));
}

TEST_F(PolicyTest, AgingForgetsWhatWasPopularLongAgo) {
  for (const auto kind : {PolicyKind::kLfu, PolicyKind::kLfuAging}) {
    make(kind, 6);
    members_.clear();
    for (int i = 0; i < 20; ++i) choose(3, {0});
    for (int i = 0; i < 200; ++i) choose(3, {});
    for (int i = 0; i < 10; ++i) choose(3, {1});
    EXPECT_EQ(evict(3), (Key{{3, kind == PolicyKind::kLfu ? 1 : 0}}));
  }
}

TEST_F(PolicyTest, ForecastKeepsWhatIsUsedAgainAndAgainOverWhatWasUsedOnce) {
  for (const auto kind : {PolicyKind::kLru, PolicyKind::kForecast}) {
    make(kind, 6);
    members_.clear();
    for (int i = 0; i < 20; ++i) choose(3, {0, 1});
    choose(3, {2, 3});
    const Key victim = evict(7);
    ASSERT_TRUE(victim.has_value());
    EXPECT_EQ(victim->expert >= 2, kind == PolicyKind::kForecast);
  }
}

TEST_F(PolicyTest, ForecastLearnsWhatFollowsWhat) {
  // Round and round: the least recently used is the very one that comes next.
  for (const auto kind : {PolicyKind::kLru, PolicyKind::kForecast}) {
    make(kind, 6);
    members_.clear();
    for (int i = 0; i < 40; ++i) choose(3, {i % 4});
    if (kind == PolicyKind::kLru) {
      EXPECT_EQ(evict(3), (Key{{3, 0}}));
    } else {
      EXPECT_NE(evict(3), (Key{{3, 0}}));
    }
  }
}

TEST_F(PolicyTest, ForecastSparesAHintedMemberUntilItsLayersNextTurn) {
  make(PolicyKind::kForecast, 6);
  for (int i = 0; i < 10; ++i) choose(3, {0, 1});
  choose(4, {2});
  for (int i = 0; i < 5; ++i) choose(4, {3});
  ASSERT_EQ(policy_->victim(7, Reach::kBorrow), (Key{{4, 2}}));
  policy_->hint({4, 2});
  EXPECT_NE(policy_->victim(7, Reach::kBorrow), (Key{{4, 2}}));
  choose(4, {3});
  EXPECT_EQ(policy_->victim(7, Reach::kBorrow), (Key{{4, 2}}));
}

TEST_F(PolicyTest, ForecastCountsTurnsFromTheLayerThatIsUnderWay) {
  make(PolicyKind::kForecast, 6);
  for (int i = 0; i < 10; ++i) {
    for (const int layer : {3, 4, 7}) choose(layer, {0, 1});
  }
  choose(3, {0, 1});
  // A slot for a layer two ahead comes from the one that has had its turn, not from the one in between.
  EXPECT_EQ(policy_->victim(7, Reach::kBorrow)->layer, 3);
  choose(4, {0, 1});
  EXPECT_EQ(policy_->victim(3, Reach::kBorrow)->layer, 4);
}

TEST_F(PolicyTest, ForecastTakesAWholeChunkAtOnceForThePastItIs) {
  // Two ways to tell of the same eight tokens, except for what followed what.
  std::array<Key, 2> victims;
  for (const bool at_once : {false, true}) {
    make(PolicyKind::kForecast, 6);
    members_.clear();
    const std::vector<int32_t> chunk = {0, 1, 0, 2, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2};
    const std::vector<float> weights(chunk.size(), 0.5F);
    if (at_once) {
      policy_->observe(3, chunk, weights);
    } else {
      for (size_t t = 0; t < chunk.size(); t += 2) {
        policy_->observe(3, std::span(chunk).subspan(t, 2), std::span(weights).subspan(t, 2));
      }
    }
    for (int32_t e = 0; e < 4; ++e) {
      policy_->admit({3, e});
      policy_->set_held({3, e}, false);
    }
    victims[at_once ? 1 : 0] = policy_->victim(3, Reach::kBorrow);
  }
  EXPECT_EQ(victims[0], (Key{{3, 3}}));
  EXPECT_EQ(victims[1], victims[0]);
}

// Ten layers in turn, each token choosing two of four with one that never changes: fewer slots than a token
// asks for, and the ones that never change are still hit.
TEST(Policy, ABudgetBelowOneTokensCycleStillHits) {
  std::vector<PolicyLayer> layers;
  for (int layer = 0; layer < 10; ++layer) layers.push_back({layer, 4});
  for (const PolicyKind kind : kAll) {
    const auto policy = make_policy(kind, layers, 14, 2);
    std::vector<ExpertKey> members;
    int hits = 0, demands = 0;
    for (int token = 0; token < 60; ++token) {
      for (int layer = 0; layer < 10; ++layer) {
        const std::array<int32_t, 2> chosen = {0, 1 + token % 3};
        policy->observe(layer, chosen, std::array{0.7F, 0.3F});
        for (const int32_t e : chosen) {
          const ExpertKey key{layer, e};
          ++demands;
          if (std::ranges::contains(members, key)) {
            ++hits;
          } else {
            if (members.size() == 14) {
              const auto victim = policy->victim(layer, Reach::kBorrow);
              ASSERT_TRUE(victim.has_value());
              policy->remove(*victim);
              std::erase(members, *victim);
            }
            policy->admit(key);
            members.push_back(key);
          }
          policy->set_held(key, true);
        }
        for (const int32_t e : chosen) {
          policy->use({layer, e});
          policy->set_held({layer, e}, false);
        }
      }
    }
    if (kind == PolicyKind::kLru) {
      EXPECT_EQ(hits, 0);  // the cliff
    } else if (kind == PolicyKind::kForecast) {
      EXPECT_GT(hits, demands / 3);
    }
  }
}

}  // namespace
}  // namespace odmoe
