#include "model/blocks/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
  std::vector<float> probabilities;
};

Routed route(const RouterOptions& options, std::vector<float> logits, std::vector<float> bias = {}) {
  Router router(options);
  Routed r;
  r.ids.resize(static_cast<size_t>(options.n_expert_used));
  r.weights.resize(r.ids.size());
  const auto probabilities = router.route(logits, bias, r.ids, r.weights);
  r.probabilities.assign(probabilities.begin(), probabilities.end());
  return r;
}

float log_of(double x) { return static_cast<float>(std::log(x)); }

// Softmax of the logs of 0.1, 0.4, 0.2, 0.3 gives just these.
const std::vector<float> kLogits = {log_of(0.1), log_of(0.4), log_of(0.2), log_of(0.3)};

TEST(Router, SoftmaxTakesTheLargestInOrderAndKeepsTheirProbabilities) {
  const Routed r = route({.n_expert = 4, .n_expert_used = 2}, kLogits);
  EXPECT_THAT(r.ids, ElementsAre(1, 3));
  EXPECT_THAT(r.weights, Pointwise(FloatNear(1e-6F), {0.4F, 0.3F}));
  EXPECT_THAT(r.probabilities, Pointwise(FloatNear(1e-6F), {0.1F, 0.4F, 0.2F, 0.3F}));
}

TEST(Router, NormalisedWeightsSumToOneBeforeTheScale) {
  const Routed r = route({.n_expert = 4, .n_expert_used = 2, .normalise = true, .scale = 2.5F}, kLogits);
  EXPECT_THAT(r.weights, Pointwise(FloatNear(1e-5F), {2.5F * 4 / 7, 2.5F * 3 / 7}));
}

TEST(Router, AScaleOfZeroMeansNone) {
  const Routed r = route({.n_expert = 4, .n_expert_used = 1, .scale = 0}, kLogits);
  EXPECT_THAT(r.weights, Pointwise(FloatNear(1e-6F), {0.4F}));
}

TEST(Router, TheBiasChoosesButDoesNotWeigh) {
  const RouterOptions options{.gating = Gating::kSigmoid, .n_expert = 4, .n_expert_used = 2};
  const Routed r = route(options, {0, 0, 0, 0}, {0.0F, 0.3F, 0.1F, 0.2F});
  EXPECT_THAT(r.ids, ElementsAre(1, 3));
  EXPECT_THAT(r.weights, ElementsAre(0.5F, 0.5F));
  EXPECT_THAT(r.probabilities, ElementsAre(0.25F, 0.25F, 0.25F, 0.25F));
}

// Groups {0,1}, {2,3}, {4,5}, {6,7}: sums of two 1.1, 1.0, 0.95, 0.2; the two best are kept, so expert 4
// (0.94), the best of all, is out.
TEST(Router, ExpertsOfLosingGroupsAreOutHoweverGood) {
  const RouterOptions options{
      .gating = Gating::kSigmoid, .n_expert = 8, .n_expert_used = 3, .n_group = 4, .n_group_used = 2};
  const auto logit = [](double p) { return static_cast<float>(std::log(p / (1 - p))); };
  const Routed r = route(options, {logit(0.55), logit(0.55), logit(0.6), logit(0.4), logit(0.94), logit(0.01),
                                   logit(0.1), logit(0.1)});
  EXPECT_THAT(r.ids, ElementsAre(2, 0, 1));
}

TEST(Router, SoftmaxOverTheChosenSumsToOne) {
  const Routed r = route({.gating = Gating::kSoftmaxOverChosen, .n_expert = 4, .n_expert_used = 2}, kLogits);
  EXPECT_THAT(r.ids, ElementsAre(1, 3));
  EXPECT_THAT(r.weights, Pointwise(FloatNear(1e-6F), {4.0F / 7, 3.0F / 7}));
}

TEST(Router, TheRootOfTheSoftplusIsAnIndependentScore) {
  const RouterOptions options{.gating = Gating::kSqrtSoftplus, .n_expert = 4, .n_expert_used = 2};
  // log(1 + e^logit) of the logs of e^4 - 1, e - 1 and e^9 - 1 is 4, 1 and 9.
  const Routed r = route(
      options, {log_of(std::exp(4) - 1), log_of(std::exp(1) - 1), log_of(std::exp(9) - 1), 25}, {0, 0, 3, 0});
  EXPECT_THAT(r.ids, ElementsAre(2, 3));
  EXPECT_THAT(r.weights, Pointwise(FloatNear(1e-5F), {3.0F, 5.0F}));
  EXPECT_THAT(r.probabilities, Pointwise(FloatNear(1e-5F), {2.0F / 11, 1.0F / 11, 3.0F / 11, 5.0F / 11}));
}

// The sigmoids of large logits are all 1.
TEST(Router, TheSigmoidOfChosenLogitsDoesNotChoose) {
  const RouterOptions options{.gating = Gating::kSigmoidOfChosen, .n_expert = 3, .n_expert_used = 2};
  const Routed r = route(options, {100, 0, 200});
  EXPECT_THAT(r.ids, ElementsAre(2, 0));
  EXPECT_THAT(r.weights, ElementsAre(1.0F, 1.0F));
}

TEST(Router, ExpertsThatAreChosenAlreadyHaveTheWeightsThatTheLogitsSay) {
  const RouterOptions options{
      .gating = Gating::kSigmoid, .n_expert = 3, .n_expert_used = 2, .normalise = true, .scale = 2};
  Router router(options);
  const std::vector<float> logits = {log_of(1), log_of(0.25F), 40};
  const std::vector<int32_t> ids = {1, 0};
  std::vector<float> weights(2);
  router.route_to(logits, ids, weights);
  // Sigmoids of 0.2 and 0.5.
  EXPECT_THAT(weights, Pointwise(FloatNear(1e-5F), {0.4F / 0.7F, 1.0F / 0.7F}));
}

TEST(Router, OfEqualsTheLowerNumberIsChosen) {
  EXPECT_THAT(route({.n_expert = 5, .n_expert_used = 3}, {1, 1, 1, 1, 1}).ids, ElementsAre(0, 1, 2));
}

TEST(Router, TinyWeightsAreNotBlownUpByNormalising) {
  const RouterOptions options{
      .gating = Gating::kSigmoid, .n_expert = 2, .n_expert_used = 1, .normalise = true};
  EXPECT_LT(route(options, {-20, -30}).weights[0], 1e-4F);
}

TEST(Router, NaNIsChosenLastAndHarmsNothing) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const RouterOptions options{.gating = Gating::kSigmoid, .n_expert = 4, .n_expert_used = 3};
  EXPECT_THAT(route(options, {nan, 1, 2, 3}).ids, ElementsAre(3, 2, 1));
}

}  // namespace
}  // namespace odmoe
