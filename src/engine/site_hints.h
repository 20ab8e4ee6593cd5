// Tells each site what of a predictor's hints is its own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "engine/expert_owners.h"
#include "engine/expert_site.h"
#include "engine/hint_sink.h"

namespace odmoe {

// As HintSink.  Allocates at creation alone.
class SiteHints final : public HintSink {
 public:
  // `sites` as `owners` numbers them; both outlive it, and get no further sites.
  SiteHints(std::span<const int> expert_layers, ExpertOwners& owners, std::vector<ExpertSite*> sites);

  // ExpertOwners::change(), between two hints.
  void change(std::span<const ExpertOwners::Owns> owns);
  void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) override;

 private:
  Mutex mutex_;  // of changes and hints
  ExpertOwners& owners_;
  std::vector<ExpertSite*> sites_;
  std::vector<size_t> index_;                                           // of a layer among those with experts
  std::vector<std::vector<ExpertKey>> share_ ODMOE_GUARDED_BY(mutex_);  // of each site
};

}  // namespace odmoe
