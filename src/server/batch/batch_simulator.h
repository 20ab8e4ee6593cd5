// How long a batch takes before it is run: its passes, by the scheduler's own rule (pass_rule.h), and what
// each of them reads and computes.  Pure functions of the requests' sizes and of a machine in numbers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/joint_graphs.h"

namespace odmoe::server {

struct SimulatedRequest {
  int32_t prompt_tokens = 1;
  int32_t written_tokens = 1;
};

// One pass through the model.
struct SimulatedPass {
  int32_t single = 0;        // tokens of sequences that write
  int32_t chunks = 0;        // parts of prompts
  int64_t chunk_tokens = 0;  // in them
  int64_t kv_tokens = 0;     // that the sequences remember, together
};

// Calls pass() for each pass of a batch of these requests, in order, with `width` sessions.
void simulate_passes(std::span<const SimulatedRequest> requests, int32_t width, int32_t prompts,
                     int32_t chunk, const std::function<void(const SimulatedPass&)>& pass);

// Dense weights of one kind: those of several single tokens are read once for as many of them as round alike
// together (model/blocks/exact_columns.h), of the kJoined that are computed together at most.
struct SimulatedWeights {
  double bytes = 0;  // of all of them
  int32_t columns = 1;
};

// Bytes of dense weights that are read for a pass, with so many single tokens and parts of prompts.
double dense_bytes_of(const SimulatedPass& pass, std::span<const SimulatedWeights> weights);

// A model on a machine, or on several that have its experts together: one of them computes all else.
struct SimulatedMachine {
  double n_layer = 0, n_expert = 0, n_expert_used = 0;  // layers with experts, and theirs
  double expert_bytes = 0;                              // of one
  double share = 0;                                     // of the experts that are in memory
  double hit_rate = 0;                                  // of those that a single token wants
  double kv_bytes_per_token = 0;                        // that a single token reads from memory
  std::vector<SimulatedWeights> dense = {};  // NOLINT(readability-redundant-member-init): as in batch_plan.h
  double memory_bytes_per_second = 0, drive_bytes_per_second = 0;
  double prompt_tokens_per_second = 0;  // as far as computing goes, with all experts in memory
  // Of several, those above are of each, but for the share, which is of all together.
  double machines = 1;
  double network_bytes_per_second = 0, latency_seconds = 0;  // between two of them
  double n_embd = 0;
  // Of so many experts, those of the machine that has most of them; empty: all.
  std::function<double(double)> most = {};  // NOLINT(readability-redundant-member-init): as in batch_plan.h
};

struct PassCost {
  double read_bytes = 0;                         // from the drive
  double dense_bytes = 0;                        // from memory, of dense weights
  double read_seconds = 0, compute_seconds = 0;  // of several machines, those of the slowest
  double network_seconds = 0;                    // which everybody waits for
  // As far as they wait for each other and as far as they do not.
  double at_most() const { return read_seconds + compute_seconds + network_seconds; }
  double at_least() const { return std::max(read_seconds, compute_seconds) + network_seconds; }
};
// Each token misses as many experts as a single one does, as if drawn by chance from those that are not in
// memory: what several miss is read once, and at most all that are absent.  Computing takes as long as
// reading from memory what single tokens need, but for dense weights, which several share, no less than those
// take for as many tokens of a prompt.
PassCost cost_of(const SimulatedPass& pass, const SimulatedMachine& machine);

struct BatchForecast {
  double requests = 0, prompt_tokens = 0, written_tokens = 0, passes = 0;
  double read_bytes = 0, dense_bytes = 0;
  double read_seconds = 0, compute_seconds = 0, network_seconds = 0;
  double at_least_seconds = 0, at_most_seconds = 0;
};
BatchForecast forecast(std::span<const SimulatedRequest> requests, int32_t width, int32_t prompts,
                       int32_t chunk, const SimulatedMachine& machine);

}  // namespace odmoe::server
