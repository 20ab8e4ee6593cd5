// Our own policy: keep the experts whose next use is expected soonest.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "store/reuse_evidence.h"

namespace odmoe {

// Belady evicts what will be wanted last (IBM Systems Journal 5(2), 1966); this one does the same with an
// estimate.  A logistic model of the evidence (reuse_evidence.h) gives p, how likely an expert is wanted in
// the coming tokens, the nearer ones counting more:
//   p = 1 / (1 + exp(-w.x)), fitted to (1 - g) sum_k g^(k-1) used(t + k), g = kForecastDiscount,
// and the expected time to its next use, in tokens, is
//   T = 1/p + (layers until its layer's turn) / (layers).
// The member of largest T goes, whatever its layer, so that layers whose choices are easily foreseen give up
// slots to the others, and there is no cliff: what decides is not the order in which layers take turns.  A
// member that is hinted counts as at least as likely as not to be wanted, until its layer's next turn.
std::unique_ptr<ResidencyPolicy> make_forecast(std::span<const PolicyLayer> layers, int32_t n_slot,
                                               int32_t n_expert_used);

// Weights of the features, fitted by bench/training/fit_forecast.cc.
inline constexpr double kForecastDiscount = 0.4;
extern const ReuseEvidence::Features kForecastWeights;

}  // namespace odmoe
