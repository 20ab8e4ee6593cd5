// How evenly the routers use the experts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/routing_event.h"
#include "odmoe/stats.h"

namespace odmoe {

// One owner.  Allocates nothing after construction.
class RoutingStats final : public RoutingSink {
 public:
  // n_expert: per layer, 0 for a dense one.
  explicit RoutingStats(std::span<const int32_t> n_expert);

  // One token in one layer: the experts chosen and the router's probability of every expert.
  void add(int layer, std::span<const int32_t> chosen, std::span<const float> probabilities);

  // All of the event's tokens.
  Status on_routing(const RoutingEvent& event) override;

  // load_balance_coefficient: 1 + std/mean of the counts (population standard deviation); 1 is perfect
  // balance. auxiliary_loss: E * sum_e f_e * P_e (Switch Transformer, arXiv:2101.03961, eq. 4 to 6, with f
  // the fraction of selections); 1 is perfect balance.  Both are means over the layers that have seen a
  // token; 0 before that.
  Stats::Routing summary() const;

 private:
  struct Layer {
    std::vector<uint64_t> counts;
    std::vector<double> probability_sums;
    uint64_t tokens = 0;
    uint64_t selections = 0;
  };
  std::vector<Layer> layers_;
};

}  // namespace odmoe
