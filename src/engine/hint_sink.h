// What takes the experts that a predictor names (foresight.h, batch_foresight.h).
#pragma once

#include <span>

#include "format/expert_source.h"
#include "store/prefetch_depth.h"

namespace odmoe {

// Called by one thread at a time, whichever.
class HintSink {
 public:
  virtual ~HintSink() = default;
  // Best first, instead of those before; how many reads for them may be in flight.  Never waits.
  virtual void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) = 0;
};

}  // namespace odmoe
