// DBRX: LayerNorms without biases, queries, keys and values of one matrix and clamped, softmax routing,
// weights normalised.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_dbrx(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.norm = NormKind::kLayer,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily},
                                                        RopePairs::kHalves));
  model.shape.layer.ffn_norm = "attn_output_norm";  // which stands behind attention's output, not on it
  model.gqa.joint_qkv = true;
  ODMOE_ASSIGN_OR_RETURN(model.gqa.qkv_limit, m.number("attention.clamp_kqv"));
  return make_gqa(std::move(model));
}

}  // namespace odmoe
