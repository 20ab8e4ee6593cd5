#include "store/frequency_policies.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "store/ranked_policy.h"

namespace odmoe {
namespace {

class Lru final : public RankedPolicy {  // all ranks are equal
 public:
  Lru(std::span<const PolicyLayer> layers, int32_t n_slot) : RankedPolicy(layers, n_slot) {}
};

class Lfu final : public RankedPolicy {
 public:
  Lfu(std::span<const PolicyLayer> layers, int32_t n_slot) : RankedPolicy(layers, n_slot) {}
  void use(ExpertKey key) override {
    RankedPolicy::use(key);
    const size_t node = node_of(key);
    set_rank(index_of(key.layer), node, rank(node) + 1);
  }
  void hint(ExpertKey key) override { RankedPolicy::use(key); }
};

// All counts fade alike, so their order is kept by the logarithm of the count that each would have had at the
// beginning of time: a rank changes when its expert is used, and at no other time.
class LfuAging final : public RankedPolicy {
 public:
  LfuAging(std::span<const PolicyLayer> layers, int32_t n_slot, int32_t n_expert_used)
      : RankedPolicy(layers, n_slot), n_expert_used_(n_expert_used), n_token_(layers.size()) {
    for (size_t i = 0; i < n_layer(); ++i) {
      for (int32_t e = 0; e < n_expert(i); ++e) {
        set_rank(i, node_of({layers[i].layer, e}), -std::numeric_limits<double>::infinity());
      }
    }
  }
  void observe(int layer, std::span<const int32_t> experts, std::span<const float> /*weights*/) override {
    n_token_[index_of(layer)] += std::max<size_t>(1, experts.size() / static_cast<size_t>(n_expert_used_));
  }
  void use(ExpertKey key) override {
    RankedPolicy::use(key);
    const size_t index = index_of(key.layer), node = node_of(key);
    const double now = -std::log2(kFrequencyFade) * static_cast<double>(n_token_[index]);
    const double before = rank(node);
    set_rank(index, node, std::max(before, now) + std::log2(1 + std::exp2(-std::abs(before - now))));
  }
  void hint(ExpertKey key) override { RankedPolicy::use(key); }

 private:
  int32_t n_expert_used_;
  std::vector<uint64_t> n_token_;  // by index of the layer
};

}  // namespace

std::unique_ptr<ResidencyPolicy> make_lru(std::span<const PolicyLayer> layers, int32_t n_slot) {
  return std::make_unique<Lru>(layers, n_slot);
}

std::unique_ptr<ResidencyPolicy> make_lfu(std::span<const PolicyLayer> layers, int32_t n_slot) {
  return std::make_unique<Lfu>(layers, n_slot);
}

std::unique_ptr<ResidencyPolicy> make_lfu_aging(std::span<const PolicyLayer> layers, int32_t n_slot,
                                                int32_t n_expert_used) {
  return std::make_unique<LfuAging>(layers, n_slot, n_expert_used);
}

}  // namespace odmoe
