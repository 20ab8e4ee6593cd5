#include "store/forecast_policy.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "store/ranked_policy.h"

namespace odmoe {

// odmoe_fit_forecast gpt-oss-20b.trace.xz 5:562:24
const ReuseEvidence::Features kForecastWeights = {-1.065F, -0.582F, -0.841F, -0.999F, -0.867F, -1.032F,
                                                  -0.921F, -0.617F, -0.727F, 0.221F,  0.339F,  0.169F,
                                                  0.154F,  0.682F,  0.195F,  0.211F,  0.196F};

namespace {

// Ranks are w.x, the logarithm of the odds of p.
class Forecast final : public RankedPolicy {
 public:
  Forecast(std::span<const PolicyLayer> layers, int32_t n_slot, int32_t n_expert_used)
      : RankedPolicy(layers, n_slot), evidence_(layers, n_expert_used) {}

  void observe(int layer, std::span<const int32_t> experts, std::span<const float> weights) override {
    const size_t index = index_of(layer);
    evidence_.observe(index, experts, weights);
    now_ = index;
    const size_t first = node_of({layer, 0});
    for (int32_t e = 0; e < n_expert(index); ++e) {
      const size_t node = first + static_cast<size_t>(e);
      if (is_member(node)) set_rank(index, node, log_odds(index, e));
    }
  }

  void admit(ExpertKey key) override {
    RankedPolicy::admit(key);
    const size_t index = index_of(key.layer);
    set_rank(index, node_of(key), log_odds(index, key.expert));
  }

  void hint(ExpertKey key) override {
    RankedPolicy::use(key);
    const size_t node = node_of(key);
    set_rank(index_of(key.layer), node, std::max(rank(node), 0.0));
  }

 protected:
  double value(size_t index, double rank) const override {
    // Of the layer that had its turn last, the next one is a whole round away, less one step.
    const size_t steps = (index + n_layer() - now_ + n_layer() - 1) % n_layer();
    const double turn = static_cast<double>(steps) / static_cast<double>(n_layer());
    return -(1 + std::exp(-rank) + turn);
  }

 private:
  double log_odds(size_t index, int32_t expert) const {
    const ReuseEvidence::Features x = evidence_.features(index, expert);
    return std::inner_product(x.begin(), x.end(), kForecastWeights.begin(), 0.0);
  }

  ReuseEvidence evidence_;
  size_t now_ = 0;  // index of the layer that was observed last
};

}  // namespace

std::unique_ptr<ResidencyPolicy> make_forecast(std::span<const PolicyLayer> layers, int32_t n_slot,
                                               int32_t n_expert_used) {
  return std::make_unique<Forecast>(layers, n_slot, n_expert_used);
}

}  // namespace odmoe
