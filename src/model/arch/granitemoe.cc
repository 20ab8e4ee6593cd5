// Granite-3.0 MoE: factors on the embedding, on what attention and experts add, on the logits, and one
// instead of 1/sqrt(head_dim); softmax routing, weights normalised, a shared expert in some.  Granite-4.0 has
// Mamba-2 in most layers and attention in the others.
#include "model/arch/gqa_model.h"
#include "model/arch/mamba2_hybrid.h"
#include "model/arch/registry.h"

namespace odmoe {

namespace {

Result<GqaModel> read_granite(const Metadata& m, bool by_layer) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .by_layer = by_layer},
                                                        RopePairs::kAdjacent));
  LayerOptions& layer = model.shape.layer;
  ODMOE_ASSIGN_OR_RETURN(layer.embedding_scale, m.factor_or_one("embedding_scale"));
  ODMOE_ASSIGN_OR_RETURN(layer.residual_scale, m.factor_or_one("residual_scale"));
  ODMOE_ASSIGN_OR_RETURN(const float logit_divisor, m.factor_or_one("logit_scale"));
  layer.logit_scale = 1 / logit_divisor;
  ODMOE_ASSIGN_OR_RETURN(const float scale, m.number_or("attention.scale", 0));
  if (scale != 0) model.gqa.kq_scale = scale;
  // Not what the name says: such files have no positions.
  ODMOE_ASSIGN_OR_RETURN(const bool turns, m.boolean_or("rope.scaling.finetuned", true));
  if (!turns) ODMOE_RETURN_IF_ERROR(forget_positions(m, model.gqa.rope));
  model.rope_factors = turns ? RopeFactorKind::kOfModel : RopeFactorKind::kNone;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", 0, 0, 1 << 20));
  model.shape.shared.n_ff = n_ff;
  return model;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_granitemoe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_granite(m, /*by_layer=*/false));
  return make_gqa(std::move(model));
}

Result<std::unique_ptr<Architecture>> make_granitehybrid(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_granite(m, /*by_layer=*/true));
  return make_mamba2_hybrid(m, std::move(model));
}

}  // namespace odmoe
