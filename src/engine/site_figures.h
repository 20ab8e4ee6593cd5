// What a place where experts are computed has done since its start, whichever machine it is on.
#pragma once

#include <cstdint>

#include "odmoe/stats.h"
#include "store/expert_store.h"

namespace odmoe {

// As it goes between machines: numbers alone.
struct SiteFigures {
  uint64_t arena_bytes = 0;
  uint64_t demands = 0, hits = 0, late_hits = 0, misses = 0;
  uint64_t prefetched = 0;
  uint64_t read_bytes = 0, stall_us = 0;
};

inline SiteFigures figures_of(const ExpertStoreStats& stats) {
  return {.arena_bytes = stats.arena_bytes,
          .demands = stats.demands,
          .hits = stats.hits,
          .late_hits = stats.late_hits,
          .misses = stats.misses,
          .prefetched = stats.prefetched,
          .read_bytes = stats.demand_read_bytes + stats.prefetch_read_bytes + stats.fill_read_bytes,
          .stall_us = stats.stall_us};
}

// What else `rank` says stays as it is.
inline void tell_figures(const SiteFigures& figures, Stats::Rank& rank) {
  rank.arena_bytes = figures.arena_bytes;
  rank.demands = figures.demands;
  rank.hits = figures.hits;
  rank.late_hits = figures.late_hits;
  rank.misses = figures.misses;
  rank.prefetched = figures.prefetched;
  rank.read_bytes = figures.read_bytes;
  rank.stall_us = figures.stall_us;
}

}  // namespace odmoe
