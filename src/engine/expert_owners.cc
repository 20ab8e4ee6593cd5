#include "engine/expert_owners.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace odmoe {

ExpertOwners::ExpertOwners(std::span<const int> expert_layers, int32_t n_expert)
    : layers_(expert_layers.begin(), expert_layers.end()),
      n_expert_(n_expert),
      owner_(expert_layers.size() * static_cast<size_t>(n_expert)) {}

void ExpertOwners::add_site(const Owns& owns) {
  assert(sites_.size() < std::numeric_limits<uint8_t>::max());
  sites_.emplace_back().share.reserve(static_cast<size_t>(n_expert_));
  divide(sites_.size() - 1, owns);
}

void ExpertOwners::change(std::span<const Owns> owns) {
  assert(owns.size() + 1 == sites_.size());
  std::ranges::fill(owner_, uint8_t{0});
  for (size_t i = 0; i < owns.size(); ++i) divide(i + 1, owns[i]);
}

// Gives the site what it takes over from those before it.
void ExpertOwners::divide(size_t number, const Owns& owns) {
  for (Site& site : sites_) site.experts.assign(layers_.size(), {});
  for (size_t index = 0; index < layers_.size(); ++index) {
    for (int32_t expert = 0; expert < n_expert_; ++expert) {
      uint8_t& site = owner(index, expert);
      if (number > 0 && owns(layers_[index], expert)) site = static_cast<uint8_t>(number);
      sites_[site].experts[index].push_back(expert);
    }
  }
}

size_t ExpertOwners::site_of_layer(int layer, int32_t expert) const {
  const auto index = std::ranges::find(layers_, layer) - layers_.begin();
  return site_of(static_cast<size_t>(index), expert);
}

std::span<const int32_t> ExpertOwners::share(size_t site, size_t index, std::span<const int32_t> experts) {
  if (sites_.size() == 1) return experts;
  std::vector<int32_t>& share = sites_[site].share;
  share.clear();
  for (const int32_t expert : experts) {
    if (owner(index, expert) == site) share.push_back(expert);
  }
  return share;
}

}  // namespace odmoe
