#include "store/reuse_evidence.h"

#include <algorithm>
#include <cmath>

namespace odmoe {
namespace {

// All of these were chosen on sessions that are not reported (docs/residency.md), and none is delicate.
constexpr float kFade50 = 0.98F, kFade10 = 0.9F;
constexpr float kAlikeFade = 0.9F;    // of likeness, for every layer
constexpr float kLeastAlike = 0.05F;  // below, a token has no vote; 0 is chance, 1 the same choice throughout
constexpr float kVote = 200.0F;       // of a token that is wholly alike; as the cube of likeness below
constexpr float kVoteFade = 0.4F;     // for every token later than the next
constexpr float kPriorVotes = 6.0F;   // of the expert's frequency, beside the votes of the past
constexpr int64_t kLongAgo = 64;      // tokens after which the weight of a use means nothing
constexpr uint16_t kNone = 0xFFFF;

size_t age_bucket(int64_t age) {  // age 1: the last token
  if (age <= 4) return static_cast<size_t>(age - 1);
  return age <= 8 ? 4 : age <= 16 ? 5 : age <= 32 ? 6 : age <= 64 ? 7 : 8;
}

}  // namespace

ReuseEvidence::ReuseEvidence(std::span<const PolicyLayer> layers, int32_t n_expert_used)
    : n_expert_used_(static_cast<size_t>(n_expert_used)) {
  size_t n_expert = 0, most = 0;
  for (const PolicyLayer& layer : layers) {
    layers_.push_back({.n_expert = layer.n_expert, .first = n_expert});
    n_expert += static_cast<size_t>(layer.n_expert);
    most = std::max(most, static_cast<size_t>(layer.n_expert));
  }
  experts_.resize(n_expert);
  chosen_.resize(most);
  history_.assign(layers.size() * kHistory * n_expert_used_, kNone);
}

void ReuseEvidence::observe(size_t index, std::span<const int32_t> experts, std::span<const float> weights) {
  const size_t n_token = std::max<size_t>(1, experts.size() / n_expert_used_);
  const size_t per_token = experts.size() / n_token;
  for (size_t t = 0; t < n_token; ++t) {
    const auto chosen = experts.subspan(t * per_token, per_token);
    Layer& layer = layers_[index];
    count(layer, chosen, weights.subspan(t * per_token, per_token));
    const std::span<uint16_t> row = choice(index, layer.n_token);
    std::ranges::fill(row, kNone);
    std::ranges::transform(chosen, row.begin(), [](int32_t e) { return static_cast<uint16_t>(e); });
    if (t + 1 == n_token) vote(index, chosen);
    ++layer.n_token;
  }
}

void ReuseEvidence::count(Layer& layer, std::span<const int32_t> experts, std::span<const float> weights) {
  const auto all = std::span(experts_).subspan(layer.first, static_cast<size_t>(layer.n_expert));
  for (Expert& expert : all) {
    expert.count50 *= kFade50;
    expert.count10 *= kFade10;
  }
  float sum = 0;
  for (const float weight : weights) sum += weight;
  for (size_t i = 0; i < experts.size(); ++i) {
    Expert& expert = all[static_cast<size_t>(experts[i])];
    ++expert.count;
    ++expert.count50;
    ++expert.count10;
    expert.last = layer.n_token;
    expert.weight = sum > 0 ? weights[i] / sum * static_cast<float>(experts.size()) : 1.0F;
  }
  layer.n50 = layer.n50 * kFade50 + 1;
  layer.n10 = layer.n10 * kFade10 + 1;
}

void ReuseEvidence::vote(size_t index, std::span<const int32_t> experts) {
  Layer& layer = layers_[index];
  const auto all = std::span(experts_).subspan(layer.first, static_cast<size_t>(layer.n_expert));
  const auto n_past = static_cast<size_t>(std::min<int64_t>(layer.n_token, kHistory - 1));
  const float chance = static_cast<float>(n_expert_used_) / static_cast<float>(layer.n_expert);
  const float each = 1 / static_cast<float>(std::max<size_t>(1, experts.size()));

  // How alike the tokens are that lie `lag` apart is kept by lag, so that it carries over from token to
  // token.
  for (const int32_t e : experts) chosen_[static_cast<size_t>(e)] = each;
  for (size_t lag = 1; lag <= n_past; ++lag) {
    float same = 0;
    for (const uint16_t e : choice(index, layer.n_token - static_cast<int64_t>(lag))) {
      if (e != kNone) same += chosen_[e];
    }
    alike_[lag] = alike_[lag] * kAlikeFade + same * (1 - kAlikeFade);
    const float above = chance < 1 ? (alike_[lag] - chance) / (1 - chance) : 0;
    weight_[lag] = above > kLeastAlike ? kVote * above * above * above : 0;
  }
  for (const int32_t e : experts) chosen_[static_cast<size_t>(e)] = 0;

  for (Expert& expert : all) expert.votes = 0;
  layer.votes = 0;
  // Oldest first: a token has the votes of its predecessor's likeness, and faded those of the ones before.
  float weight = 0;
  for (size_t lag = n_past; lag-- > 0;) {
    weight = weight_[lag + 1] + kVoteFade * weight;
    layer.votes += weight;
    for (const uint16_t e : choice(index, layer.n_token - static_cast<int64_t>(lag))) {
      if (e != kNone) all[e].votes += weight;
    }
  }
}

ReuseEvidence::Features ReuseEvidence::features(size_t index, int32_t number) const {
  const Layer& layer = layers_[index];
  const Expert& expert = experts_[layer.first + static_cast<size_t>(number)];
  const float chance = static_cast<float>(n_expert_used_) / static_cast<float>(layer.n_expert);
  const int64_t age = expert.last < 0 ? kLongAgo + 1 : layer.n_token - expert.last;
  const float often = (expert.count + chance) / (static_cast<float>(layer.n_token) + 1);
  const float often50 = (expert.count50 + chance) / (layer.n50 + 1);
  const float often10 = (expert.count10 + chance) / (layer.n10 + 1);
  const float voted = (expert.votes + kPriorVotes * often) / (layer.votes + kPriorVotes);
  Features x{};
  x[0] = 1;
  x[1 + age_bucket(std::max<int64_t>(age, 1))] = 1;
  x[10] = std::log(often / chance);
  x[11] = std::log(often50 / chance);
  x[12] = std::log(often10 / chance);
  x[13] = std::log(voted / often);
  if (age <= kLongAgo) x[14] = std::log(expert.weight + 0.05F);
  if (age == 1) x[15] = x[14];
  x[16] = std::log(expert.count + 0.5F);
  return x;
}

}  // namespace odmoe
