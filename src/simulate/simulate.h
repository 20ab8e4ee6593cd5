// What a residency policy would have hit on a recorded trace.
#pragma once

#include <cstdint>
#include <functional>

#include "odmoe/options.h"
#include "odmoe/result.h"
#include "trace/routing_trace.h"

namespace odmoe {

struct SimulatedHits {
  uint64_t demands = 0, hits = 0;
  double rate() const { return demands == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(demands); }
};

// Called now and then with the fraction done; false stops.
using SimulationProgress = std::function<bool(double fraction)>;

// Runs the policy that the expert store runs, in the same order: the router's choice is told, those that are
// in memory are hits and held, then each of the others takes a free slot or a victim's, in the trace's order.
// Sessions follow one another with the cache kept.  Deterministic.
// Errors: kUsage (n_slot less than one event's experts or more than INT32_MAX), kInterrupted.
Result<SimulatedHits> simulate(const RoutingTrace& trace, PolicyKind policy, int64_t n_slot,
                               const SimulationProgress& progress = {});

// The most that any policy could hit with these slots, shared by all layers, that loads what is asked for and
// keeps an event's experts until its end: evict what is used last (Belady, IBM Systems Journal 5(2), 1966).
Result<SimulatedHits> simulate_belady(const RoutingTrace& trace, int64_t n_slot,
                                      const SimulationProgress& progress = {});

}  // namespace odmoe
