// What to expect of a model on a machine that is described by a few numbers: the arithmetic of `odmoe plan`.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "cli/hit_rates.h"
#include "cli/speed_estimate.h"
#include "odmoe/result.h"
#include "odmoe/stats.h"

namespace odmoe::cli {

struct Machine {
  uint64_t ram_bytes = 0;
  double memory_bytes_per_second = 0, drive_bytes_per_second = 0;
  // How many such machines there are (docs/scale.md), what goes between two of them in each direction, and
  // how long a message takes that is short.
  int32_t machines = 1;
  double network_bytes_per_second = 0, latency_seconds = 0;
  // What a token takes beside reading, on any of them: a GPU's launches and waits, say.
  double overhead_seconds = 0;
  // kUsage: numbers that no machine has, which are most often a unit left out or two options exchanged.
  Status validate() const;
};

// What --memory auto takes of a machine that does nothing else, and the smallest RAM of which it takes as
// much.
uint64_t budget_of(uint64_t ram_bytes);
uint64_t ram_for(uint64_t budget_bytes);

// A model with one context: what is needed wherever it runs.
struct PlannedModel {
  MemoryPlan whole;   // with all experts in memory
  SpeedInputs speed;  // bytes a token reads, the KV cache full; the rates are the machine's
  int32_t n_expert_layer = 0, n_expert_used = 0, n_embd = 0;
};

// Of so many experts that are drawn by chance from equal shares of several machines, those of the machine
// with the most: the expectation.
double expected_most(int32_t n_expert, int32_t machines);

// The same of any number that need not be whole, for more than a few by how much a sum of draws varies. Pure,
// and for one machine the number itself.
std::function<double(double)> expected_most_of(int32_t machines);

// Of all experts, the share that all machines hold together, each with such a budget; `whole` is the plan of
// the first for all of them.
double share_of_all(const MemoryPlan& whole, uint64_t budget_bytes, int32_t machines);

// Of each of several machines, the RAM with which they hold all experts.
uint64_t ram_for_all(const PlannedModel& model, int32_t machines);

struct Outlook {
  uint64_t ram_bytes = 0;
  double share = 0;     // of the experts that are in memory
  double hit_rate = 0;  // of those that a token wants
  // Of several machines: that of what the slowest of each layer wants, and what goes between them for a
  // token.
  double read_hit_rate = 0;
  double network_bytes = 0, network_seconds = 0;
  Speed speed;
};
// Nothing where the budget of so much RAM is less than MemoryPlan::minimum_bytes.
std::optional<Outlook> look_out(const PlannedModel& model, const Machine& machine, const HitRates& rates);

// The same at sizes of RAM that are sold, up to the first that holds all experts, and at machine.ram_bytes.
std::vector<Outlook> over_memory(const PlannedModel& model, const Machine& machine, const HitRates& rates);

}  // namespace odmoe::cli
