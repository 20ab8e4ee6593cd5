// Families with gated attention in some layers and Gated DeltaNet in the others: Qwen3-Next and what came of
// it.
#pragma once

#include <vector>

#include "model/arch/hybrid_model.h"
#include "model/blocks/delta_net.h"

namespace odmoe {

struct DeltaNetModel {
  GqaModel gqa;
  DeltaNetShape delta_net;
  std::vector<bool> recurrent;  // by layer: whether it has a delta net
};

// Reads all of it but what is between the layers; key heads go by the remainder, beta and alpha have matrices
// of their own.  Softmax routing, weights normalised, a shared expert behind a sigmoid gate.
Result<DeltaNetModel> read_delta_net_model(const Metadata& metadata);

using DeltaNetArchitecture = HybridArchitecture<delta_net_state, declare_delta_net, delta_net, DeltaNetShape>;

}  // namespace odmoe
