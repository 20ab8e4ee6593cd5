#include "cli/hit_rates.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "odmoe/options.h"

namespace odmoe::cli {
namespace {

constexpr std::array kSimulatedShares = {1 / 64., 1 / 32., 1 / 16., 1 / 8., 3 / 16., 1 / 4.,
                                         3 / 8.,  1 / 2.,  5 / 8.,  3 / 4., 7 / 8.};

}  // namespace

HitRates::HitRates(const std::vector<Point>& points) : points_{{.share = 0, .rate = 0}} {
  for (const Point& point : points) {
    if (point.share > points_.back().share && point.share < 1)
      points_.push_back({point.share, std::max(point.rate, points_.back().rate)});
  }
  points_.push_back({.share = 1, .rate = 1});
}

double HitRates::at(double share) const {
  share = std::clamp(share, 0.0, 1.0);
  size_t i = 1;
  while (share > points_[i].share) ++i;
  const Point& a = points_[i - 1];
  const Point& b = points_[i];
  return a.rate + (b.rate - a.rate) * (share - a.share) / (b.share - a.share);
}

const HitRates& hit_rates_of_traces() {
  static const HitRates kRates({{.0625, .434}, {.125, .606}, {.25, .768}, {.5, .859}});
  return kRates;
}

const HitRates& hit_rates_of_chance() {
  static const HitRates kRates({});
  return kRates;
}

Result<TraceHits> hit_rates_of(const RoutingTrace& trace, const SimulationProgress& progress) {
  const int64_t n_expert = int64_t{trace.n_layer} * trace.n_expert;
  std::vector<HitRates::Point> points;
  double n_done = 0;
  const auto run = [&](int64_t n_slot) {
    return simulate(trace, EngineOptions{}.policy, n_slot, [&](double fraction) {
      return !progress || progress((n_done + fraction) / static_cast<double>(kSimulatedShares.size() + 1));
    });
  };
  for (const double share : kSimulatedShares) {
    const auto n_slot = static_cast<int64_t>(std::floor(share * static_cast<double>(n_expert)));
    if (n_slot >= trace.n_expert_used && n_slot < n_expert) {
      ODMOE_ASSIGN_OR_RETURN(const SimulatedHits hits, run(n_slot));
      points.push_back({static_cast<double>(n_slot) / static_cast<double>(n_expert), hits.rate()});
    }
    ++n_done;
  }
  ODMOE_ASSIGN_OR_RETURN(const SimulatedHits all, run(n_expert));
  return TraceHits{.rates = HitRates(points), .first_uses = 1 - all.rate()};
}

}  // namespace odmoe::cli
