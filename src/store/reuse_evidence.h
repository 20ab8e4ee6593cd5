// What the past says about when an expert will be wanted again: the features of the forecast policy.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "store/residency_policy.h"

namespace odmoe {

// For every expert of every layer: how long ago and how often it was chosen (over all time, the last fifty
// tokens and the last ten), with what weight, and what followed in the past when the router chose as it does
// now.  The last is a search for nearest neighbours: a past token is similar if, over the last ten or so
// layers, the router chose the same experts for it and its predecessor as for the current token and its own.
// Experts that were chosen soon after similar tokens are likely now.
//
// Allocates nothing after construction.  observe() costs kHistory x n_expert_used steps, twice.  One owner.
class ReuseEvidence {
 public:
  static constexpr size_t kHistory = 256;  // tokens that are searched
  static constexpr size_t kFeatures = 17;
  using Features = std::array<float, kFeatures>;

  ReuseEvidence(std::span<const PolicyLayer> layers, int32_t n_expert_used);

  // As ResidencyPolicy::observe; `index` counts the layers of the constructor.
  void observe(size_t index, std::span<const int32_t> experts, std::span<const float> weights);

  // As of the last token that the layer has seen.  All are relative to a choice by chance, so that they mean
  // the same in models with few experts and with many.
  Features features(size_t index, int32_t expert) const;

 private:
  struct Expert {
    float count = 0, count50 = 0, count10 = 0;  // uses; the latter two fading by .98 and .9 for every token
    float votes = 0;                            // weight of the past tokens that say that it comes next
    float weight = 0;                           // the router's at the last use, relative to equal weights
    int64_t last = -1;                          // token of the last use, -1: none
  };
  struct Layer {
    int32_t n_expert = 0;
    size_t first = 0;
    int64_t n_token = 0;
    float n50 = 0, n10 = 0;  // tokens, fading as the counts do
    float votes = 0;         // weight of all past tokens that vote
  };

  void count(Layer& layer, std::span<const int32_t> experts, std::span<const float> weights);
  void vote(size_t index, std::span<const int32_t> experts);
  std::span<uint16_t> choice(size_t index, int64_t token) {
    const size_t row = static_cast<size_t>(token) % kHistory;
    return std::span(history_).subspan((index * kHistory + row) * n_expert_used_, n_expert_used_);
  }

  size_t n_expert_used_;
  std::vector<Layer> layers_;
  std::vector<Expert> experts_;          // by layer, then expert
  std::vector<uint16_t> history_;        // [n_expert_used, kHistory, n_layer]; kNone where fewer were chosen
  std::array<float, kHistory> alike_{};  // by lag in tokens: how alike now and then are
  std::array<float, kHistory> weight_{};
  std::vector<float> chosen_;  // by expert: 1 for those of the current token
};

}  // namespace odmoe
