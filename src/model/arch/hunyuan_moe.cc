// Hunyuan-A13B: norms of queries and keys per head, after RoPE; softmax routing, weights normalised, a shared
// expert.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_hunyuan_moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.gqa.norm_after_rope = true;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, m.integer("expert_shared_feed_forward_length", 1, 1 << 20));
  model.shape.shared.n_ff = n_ff;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
