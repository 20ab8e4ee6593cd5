// Which site computes an expert: always the same one, so that it is in one memory only.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace odmoe {

// One owner.  Sites are numbered from 0; the first owns all experts that no later one takes over.
class ExpertOwners {
 public:
  using Owns = std::function<bool(int layer, int32_t expert)>;

  // expert_layers: the layers that have experts, n_expert each.
  ExpertOwners(std::span<const int> expert_layers, int32_t n_expert);

  // Another site, which takes over what `owns` says.  Of the first it is not asked.
  void add_site(const Owns& owns);
  // Others from now on: what each site but the first takes over, in their order.
  void change(std::span<const Owns> owns);
  size_t n_site() const { return sites_.size(); }

  // Of a layer, by index among those with experts: all that are a site's.
  std::span<const int32_t> experts(size_t site, size_t index) const { return sites_[site].experts[index]; }
  // Who computes an expert of a layer.  Any thread, once all sites are there.
  size_t site_of(size_t index, int32_t expert) const {
    return owner_[index * static_cast<size_t>(n_expert_) + static_cast<size_t>(expert)];
  }
  // The same by the layer's number.  One owner.
  size_t site_of_layer(int layer, int32_t expert) const;
  // Of some experts of a layer those that are a site's, in their order; valid until the site is asked again.
  std::span<const int32_t> share(size_t site, size_t index, std::span<const int32_t> experts);

 private:
  struct Site {
    std::vector<std::vector<int32_t>> experts;  // by layer
    std::vector<int32_t> share;
  };
  void divide(size_t number, const Owns& owns);
  uint8_t& owner(size_t index, int32_t expert) {
    return owner_[index * static_cast<size_t>(n_expert_) + static_cast<size_t>(expert)];
  }
  std::vector<int> layers_;
  int32_t n_expert_;
  std::vector<uint8_t> owner_;  // [n_expert, layers]
  std::vector<Site> sites_;
};

}  // namespace odmoe
