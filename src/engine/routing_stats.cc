#include "engine/routing_stats.h"

#include <cassert>
#include <cmath>

namespace odmoe {

RoutingStats::RoutingStats(std::span<const int32_t> n_expert) {
  for (const int32_t n : n_expert) {
    layers_.push_back({.counts = std::vector<uint64_t>(static_cast<size_t>(n)),
                       .probability_sums = std::vector<double>(static_cast<size_t>(n))});
  }
}

void RoutingStats::add(int layer, std::span<const int32_t> chosen, std::span<const float> probabilities) {
  Layer& l = layers_[static_cast<size_t>(layer)];
  assert(probabilities.size() == l.counts.size());
  for (const int32_t expert : chosen) ++l.counts[static_cast<size_t>(expert)];
  for (size_t e = 0; e < probabilities.size(); ++e)
    l.probability_sums[e] += static_cast<double>(probabilities[e]);
  ++l.tokens;
  l.selections += chosen.size();
}

Status RoutingStats::on_routing(const RoutingEvent& event) {
  const auto n_token = static_cast<size_t>(event.n_token);
  const size_t n_used = event.experts.size() / n_token, n_expert = event.probabilities.size() / n_token;
  for (size_t t = 0; t < n_token; ++t) {
    add(event.layer, event.experts.subspan(t * n_used, n_used),
        event.probabilities.subspan(t * n_expert, n_expert));
  }
  return {};
}

Stats::Routing RoutingStats::summary() const {
  Stats::Routing routing;
  int used_layers = 0;
  for (const Layer& layer : layers_) {
    routing.expert_counts.push_back(layer.counts);
    routing.total_selections += layer.selections;
    if (layer.tokens == 0) continue;
    ++used_layers;
    const auto n = static_cast<double>(layer.counts.size());
    const double mean = static_cast<double>(layer.selections) / n;
    double variance = 0;
    double loss = 0;
    for (size_t e = 0; e < layer.counts.size(); ++e) {
      const auto count = static_cast<double>(layer.counts[e]);
      variance += (count - mean) * (count - mean) / n;
      loss += count / static_cast<double>(layer.selections) * layer.probability_sums[e] /
              static_cast<double>(layer.tokens);
    }
    routing.load_balance_coefficient += 1 + std::sqrt(variance) / mean;
    routing.auxiliary_loss += n * loss;
  }
  if (used_layers > 0) {
    routing.load_balance_coefficient /= used_layers;
    routing.auxiliary_loss /= used_layers;
  }
  return routing;
}

}  // namespace odmoe
