// How often an expert that is wanted is in memory, by how much of them is there.
#pragma once

#include <vector>

#include "odmoe/result.h"
#include "simulate/simulate.h"
#include "trace/routing_trace.h"

namespace odmoe::cli {

// Immutable.
class HitRates {
 public:
  struct Point {
    double share, rate;  // of all experts; of those that a token wants
  };
  // Straight lines between points, of growing shares; a point that is below the one before is raised to it:
  // memory can be left unused.  Without experts nothing hits, and once all are there every one does.
  explicit HitRates(const std::vector<Point>& points);

  double at(double share) const;

 private:
  std::vector<Point> points_;
};

// The mean of the three traces of docs/residency.md with the default policy.  Another model and other text
// differ by .1 and more.
const HitRates& hit_rates_of_traces();
// Every expert as likely as any other, at every token: no real router is as bad.
const HitRates& hit_rates_of_chance();

struct TraceHits {
  HitRates rates;
  // Of what the trace wants, what it wants for the first time: that misses whatever fits, and counts.
  double first_uses = 0;
};
// What the default policy hits on a trace, from no experts in memory on.  Errors: those of simulate().
Result<TraceHits> hit_rates_of(const RoutingTrace& trace, const SimulationProgress& progress = {});

}  // namespace odmoe::cli
