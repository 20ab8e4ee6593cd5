#include "engine/site_hints.h"

#include <algorithm>
#include <utility>

#include "store/expert_store.h"

namespace odmoe {

SiteHints::SiteHints(std::span<const int> expert_layers, ExpertOwners& owners, std::vector<ExpertSite*> sites)
    : owners_(owners), sites_(std::move(sites)), share_(sites_.size()) {
  index_.resize(static_cast<size_t>(std::ranges::max(expert_layers)) + 1);
  for (size_t i = 0; i < expert_layers.size(); ++i) index_[static_cast<size_t>(expert_layers[i])] = i;
  for (std::vector<ExpertKey>& share : share_) share.reserve(ExpertStore::kMaxHints);
}

void SiteHints::change(std::span<const ExpertOwners::Owns> owns) {
  const MutexLock lock(mutex_);
  owners_.change(owns);
}

void SiteHints::hint(std::span<const ExpertKey> experts, PrefetchDepth depth) {
  const MutexLock lock(mutex_);
  for (std::vector<ExpertKey>& share : share_) share.clear();
  for (const ExpertKey& key : experts.first(std::min(experts.size(), ExpertStore::kMaxHints))) {
    share_[owners_.site_of(index_[static_cast<size_t>(key.layer)], key.expert)].push_back(key);
  }
  for (size_t i = 0; i < sites_.size(); ++i) sites_[i]->hint(share_[i], depth);
}

}  // namespace odmoe
