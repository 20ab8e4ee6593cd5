// How fast a model can be at a budget: what drive and memory bring, before anything is run.
#pragma once

#include <cstdint>
#include <optional>

#include "format/checkpoint.h"
#include "odmoe/engine.h"
#include "odmoe/result.h"
#include "odmoe/stats.h"

namespace odmoe::cli {

// What one token reads, and how fast that comes.
struct SpeedInputs {
  uint64_t dense_read_bytes = 0;  // of weights in memory that every token reads
  uint64_t cycle_bytes = 0;       // of routed experts that one token uses
  uint64_t state_read_bytes = 0;  // of the KV cache, as far as it is filled
  double memory_bytes_per_second = 0;
  double drive_bytes_per_second = 0;  // 0: not known
};

// The first two, for a model.
SpeedInputs bytes_of_a_token(const ModelInfo& model, const Checkpoint& file);

// Of all experts, the share that a budget for the whole process holds; `whole` is the plan for all of them.
double expert_share(const MemoryPlan& whole, uint64_t budget_bytes);

// Tokens a second of decoding if only reading took time.
struct Speed {
  double memory = 0;            // if all came from memory
  std::optional<double> drive;  // of what misses, from the drive; nothing: no token waits for it
  double other_seconds = 0;     // that a token takes besides, whatever is read: messages, launches
  // Where memory and drive read at once, whichever takes longer; and where one waits for the other.
  double overlapped() const;
  double one_after_the_other() const;
};

// With all experts in memory no run is faster, as long as the bandwidth is what it was; with fewer, one is
// whose experts are wanted again more often than `hit_rate` says.  Nothing where the drive is needed and not
// known.
std::optional<Speed> reading_speed(const SpeedInputs& inputs, double hit_rate);

// What reading the same `bytes` over and over with `threads` brings, in bytes per second: the best of a few
// tries, which take some hundredths of a second.  What fits in caches comes from there, as it does for a
// model as small; of more than 64 MiB, 64 MiB are read.  Errors: those of AlignedBuffer::allocate.
Result<double> measure_memory_bandwidth(int threads, uint64_t bytes);

}  // namespace odmoe::cli
