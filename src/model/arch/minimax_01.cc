// MiniMax-Text-01 and M1 (arXiv:2501.08313): lightning attention in seven layers of eight, attention with
// RoPE on half of a head in the others; what a layer adds to is the norm of what it began with; softmax
// routing, weights normalised.
#include "model/arch/hybrid_model.h"
#include "model/arch/registry.h"
#include "model/blocks/lightning_attention.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_minimax_01(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  ModelShape& shape = model.shape;
  shape.layer.norm_is_residual = true;
  ODMOE_ASSIGN_OR_RETURN(shape.layer.residual_scale, m.number("residual_scale"));
  const LightningShape block{.n_embd = shape.n_embd,
                             .n_head = shape.n_head,
                             .head_dim = model.gqa.head_dim,
                             .n_layer = shape.n_layer,
                             .norm_eps = shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(std::vector<bool> recurrent, read_recurrent_interval(m, shape, 8));
  return make_hybrid<lightning_state, declare_lightning, lightning_attention>(std::move(model),
                                                                              std::move(recurrent), block);
}

}  // namespace odmoe
