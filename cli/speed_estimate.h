// How fast a model can be at a budget: what drive and memory bring, before anything is run.
#pragma once

#include <cstdint>
#include <optional>

#include "odmoe/result.h"

namespace odmoe::cli {

struct SpeedInputs {
  uint64_t dense_read_bytes = 0;  // of weights in memory that every token reads
  uint64_t cycle_bytes = 0;       // of routed experts that one token uses
  double memory_bytes_per_second = 0;
  double drive_bytes_per_second = 0;  // 0: not known
};

// Share of the experts that a token uses which are found in memory, when this share of all experts fits. From
// docs/residency.md: the mean of its three traces with the default policy, straight lines in between. Another
// model and other text differ by .1 and more.
double expected_hit_rate(double share);

// Tokens a second of decoding if only reading took time: what must come from memory and from the drive, each
// at its bandwidth, whichever takes longer.  With all experts in memory no run is faster, as long as the
// bandwidth is what it was; with fewer, one is whose experts are wanted again more often than
// expected_hit_rate() says.  Nothing where the drive is needed and not known.
std::optional<double> roofline_tokens_per_second(const SpeedInputs& inputs, double share);

// What reading the same `bytes` over and over with `threads` brings, in bytes per second: the best of a few
// tries, which take some hundredths of a second.  What fits in caches comes from there, as it does for a
// model as small; of more than 64 MiB, 64 MiB are read.  Errors: those of AlignedBuffer::allocate.
Result<double> measure_memory_bandwidth(int threads, uint64_t bytes);

}  // namespace odmoe::cli
