#include "engine/expert_owners.h"

#include <cassert>
#include <limits>

namespace odmoe {

ExpertOwners::ExpertOwners(std::span<const int> expert_layers, int32_t n_expert)
    : layers_(expert_layers.begin(), expert_layers.end()),
      n_expert_(n_expert),
      owner_(expert_layers.size() * static_cast<size_t>(n_expert)) {}

void ExpertOwners::add_site(const Owns& owns) {
  assert(sites_.size() < std::numeric_limits<uint8_t>::max());
  const auto number = static_cast<uint8_t>(sites_.size());
  sites_.emplace_back().share.reserve(static_cast<size_t>(n_expert_));
  for (Site& site : sites_) site.experts.assign(layers_.size(), {});
  for (size_t index = 0; index < layers_.size(); ++index) {
    for (int32_t expert = 0; expert < n_expert_; ++expert) {
      uint8_t& site = owner(index, expert);
      if (number > 0 && owns(layers_[index], expert)) site = number;
      sites_[site].experts[index].push_back(expert);
    }
  }
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
