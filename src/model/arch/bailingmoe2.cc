// Ling-2.0 and Ring-2.0 (mini, flash, 1T): queries, keys and values of one matrix, norms of queries and keys
// per head, RoPE on half of a head, leading dense layers, routing in groups with a selection bias, a shared
// expert; blocks for speculation behind the layers.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_bailingmoe2(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kKey, .scales = true, .selection_bias = kSelectionBias},
                     RopePairs::kHalves));
  model.gqa.joint_qkv = true;
  model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_shared, m.integer_or("expert_shared_count", 0, 0, 1024));
  ODMOE_ASSIGN_OR_RETURN(const int32_t width,
                         m.integer_or("expert_shared_feed_forward_length", model.shape.n_ff_exp, 1, 1 << 20));
  model.shape.shared.n_ff = int64_t{n_shared} * width;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
