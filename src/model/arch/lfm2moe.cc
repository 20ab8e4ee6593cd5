// LFM2 MoE: short convolutions in most layers, attention in the others, leading dense layers, sigmoid routing
// with a selection bias, weights normalised.
#include "model/arch/hybrid_model.h"
#include "model/arch/registry.h"
#include "model/blocks/short_convolution.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_lfm2moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating = Gating::kSigmoid,
                                                         .gating_says = Says::kKey,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .selection_bias = kSelectionBias,
                                                         .by_layer = true},
                                                        RopePairs::kHalves));
  // Converters call the norm before the output head what an older one called it.
  if (m.file().find_tensor("output_norm.weight") == nullptr) {
    model.shape.layer.output_norm = "token_embd_norm";
  }
  model.gqa.qk_norm = QkNorm::kPerHead;
  ShortConvolutionShape convolution{.n_embd = model.shape.n_embd};
  ODMOE_ASSIGN_OR_RETURN(convolution.n_tap, m.integer("shortconv.l_cache", 2, 64));
  ODMOE_ASSIGN_OR_RETURN(std::vector<bool> recurrent, read_recurrent_layers(m, model.shape));
  return make_hybrid<short_convolution_state, declare_short_convolution, short_convolution>(
      std::move(model), std::move(recurrent), convolution);
}

}  // namespace odmoe
