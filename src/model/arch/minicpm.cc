// MiniCPM-MoE (arXiv:2404.06395): factors on the embedding, on what attention and experts add, and on the
// logits; softmax routing, weights normalised.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_minicpm(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kAdjacent));
  LayerOptions& layer = model.shape.layer;
  // Files of before there were keys are not known: 1 would be wrong for all of them.
  ODMOE_ASSIGN_OR_RETURN(layer.embedding_scale, m.number("embedding_scale"));
  ODMOE_ASSIGN_OR_RETURN(layer.residual_scale, m.number("residual_scale"));
  ODMOE_ASSIGN_OR_RETURN(const float logit_divisor, m.number("logit_scale"));
  if (logit_divisor == 0) {
    return fail(ErrorKind::kBadFile, "{}: {} is 0, and logits are divided by it", m.file().path().string(),
                m.key("logit_scale"));
  }
  layer.logit_scale = 1 / logit_divisor;
  model.rope_factors = RopeFactorKind::kOfModel;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
