#include "store/residency_policy.h"

#include <algorithm>
#include <utility>

#include "store/forecast_policy.h"
#include "store/frequency_policies.h"

namespace odmoe {

std::unique_ptr<ResidencyPolicy> make_policy(PolicyKind kind, std::span<const PolicyLayer> layers,
                                             int32_t n_slot, int32_t n_expert_used) {
  switch (kind) {
    case PolicyKind::kForecast:
      return make_forecast(layers, n_slot, n_expert_used);
    case PolicyKind::kLru:
      return make_lru(layers, n_slot);
    case PolicyKind::kLayerLru:
      return make_layer_lru(layers, n_slot);
    case PolicyKind::kLfu:
      return make_lfu(layers, n_slot);
    case PolicyKind::kLfuAging:
      return make_lfu_aging(layers, n_slot, n_expert_used);
  }
  std::unreachable();
}

bool takes_free_slot(const ResidencyPolicy& policy, int layer, Reach reach, int32_t n_expert_used) {
  if (reach == Reach::kBorrow && !policy.keeps_free_slots()) return true;
  const int32_t needs = std::max(policy.share(layer), reach == Reach::kBorrow ? n_expert_used : 0);
  return policy.n_member(layer) < needs;
}

void share_equally(std::span<const int32_t> n_expert, int32_t n_slot, std::span<int32_t> shares) {
  std::ranges::fill(shares, 0);
  for (bool given = true; given && n_slot > 0;) {
    given = false;
    for (size_t i = 0; i < shares.size() && n_slot > 0; ++i) {
      if (shares[i] == n_expert[i]) continue;
      ++shares[i];
      --n_slot;
      given = true;
    }
  }
}

}  // namespace odmoe
