// What to expect of a model on a machine that is described by a few numbers: the arithmetic of `odmoe plan`.
#pragma once

#include <cstdint>
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
};

struct Outlook {
  uint64_t ram_bytes = 0;
  double share = 0;     // of the experts that are in memory
  double hit_rate = 0;  // of those that a token wants
  Speed speed;
};
// Nothing where the budget of so much RAM is less than MemoryPlan::minimum_bytes.
std::optional<Outlook> look_out(const PlannedModel& model, const Machine& machine, const HitRates& rates);

// The same at sizes of RAM that are sold, up to the first that holds all experts, and at machine.ram_bytes.
std::vector<Outlook> over_memory(const PlannedModel& model, const Machine& machine, const HitRates& rates);

}  // namespace odmoe::cli
