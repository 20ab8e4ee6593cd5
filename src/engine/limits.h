// What an engine's options say about sizes, here and on whoever computes experts for it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/units.h"
#include "engine/local_site.h"
#include "odmoe/options.h"

namespace odmoe {

// What the process grows by between the plan and the end that no part of the plan counts: stacks of compute
// threads, page tables, allocator slack, pages of libraries first touched later.
inline constexpr uint64_t kProcessSlack = 12 * kMiB;

// Tokens of single ones' bits that are evaluated together, at most: of several sessions, or of one timeline,
// where the experts that they share are read once.
inline int32_t max_lanes(const EngineOptions& options) {
  constexpr int32_t kSinglyTogether = 32;
  return std::max(options.sessions, std::min(options.chunk, kSinglyTogether));
}

// Chunks of several timelines that are evaluated together, at most.
inline int32_t max_places(const EngineOptions& options) {
  return options.prompts > 1 ? std::min(options.prompts, options.sessions) : 0;
}

inline LocalSite::Options local_site_options(const EngineOptions& options,
                                             const std::atomic<bool>* interrupted) {
  // Rows of an expert that are tried at load for them (model/blocks/exact_rows.h); more would take longer
  // than they are worth.
  constexpr int32_t kRowsTried = 8, kMostRowsTried = 64;
  const int32_t lanes = max_lanes(options);
  return {.max_tokens = std::max(options.chunk, lanes),
          .max_tokens_together = int64_t{lanes} + int64_t{max_places(options)} * options.chunk,
          .rows_tried = std::max(std::min(options.sessions, kMostRowsTried), std::min(lanes, kRowsTried)),
          .fill = options.fill,
          .interrupted = interrupted};
}

}  // namespace odmoe
