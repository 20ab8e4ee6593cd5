// Cohere 2 MoE (Command A with experts): attention and the MLP side by side on one norm, a window and RoPE in
// three of four layers and RoPE in leading dense ones, sigmoid routing, half of the sum of experts and shared
// expert, scaled logits.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_cohere2moe(const Metadata& m) {
  const NormKind norm = m.has("attention.layer_norm_rms_epsilon") ? NormKind::kRms : NormKind::kLayer;
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.norm = norm, .gating = Gating::kSigmoid, .scales = true}, RopePairs::kAdjacent));
  LayerOptions& layer = model.shape.layer;
  layer.parallel = true;
  ODMOE_ASSIGN_OR_RETURN(layer.logit_scale, m.factor_or_one("logit_scale"));
  ODMOE_ASSIGN_OR_RETURN(int32_t n_ff, read_shared_width(m, model.shape));
  if (n_ff > 0) {
    ODMOE_ASSIGN_OR_RETURN(n_ff, read_own_shared_width(m, model.shape));
    layer.mlp_scale = 0.5F;
  }
  model.shape.shared.n_ff = n_ff;
  model.rope_factors = RopeFactorKind::kOfModel;
  ODMOE_RETURN_IF_ERROR(
      read_windows(m, {.period = 4, .full_first = true, .own_freq_base = false, .full_rope = false}, model));
  for (int32_t i = 0; i < model.shape.n_layer_dense_lead; ++i) {
    model.layers[static_cast<size_t>(i)].rope = model.gqa.rope;
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
