// What a site does with experts that are not leased yet, because the store had no slot for them.
#pragma once

#include <cstdint>
#include <vector>

#include "store/expert_store.h"

namespace odmoe {

// Leases of `pending`, distinct experts of a layer, what the store has room for: appends to `leases`, and
// takes out of `pending`.
inline void lease_pending(ExpertStore& store, int layer, std::vector<int32_t>& pending,
                          std::vector<ExpertLease>& leases) {
  if (pending.empty()) return;
  const size_t before = leases.size();
  store.lease(layer, pending, leases);
  for (size_t i = before; i < leases.size(); ++i) std::erase(pending, leases[i].key().expert);
}

}  // namespace odmoe
