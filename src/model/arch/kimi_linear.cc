// Kimi Linear (arXiv:2510.26692): Kimi Delta Attention in three layers of four, multi-head latent attention
// without positions in the others, leading dense layers, sigmoid routing with a selection bias, weights
// normalised, shared experts.
#include "model/arch/kda_mla_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_kimi_linear(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(KdaMlaModel model, read_kda_mla_model(m, {.gating = Gating::kSigmoid,
                                                                   .gating_says = Says::kKey,
                                                                   .normalise = true,
                                                                   .normalise_says = Says::kFamily,
                                                                   .scales = true,
                                                                   .selection_bias = kSelectionBias,
                                                                   .by_layer = true}));
  ODMOE_RETURN_IF_ERROR(forget_positions(m, model.mla.mla.rope));
  return std::make_unique<KdaMlaArchitecture>(std::move(model));
}

}  // namespace odmoe
