// EXAONE MoE (K-EXAONE-236B-A23B): a window and RoPE in three of four layers, neither in the others, norms of
// queries and keys, leading dense layers, sigmoid routing with a selection bias, a shared expert.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_exaone_moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                     RopePairs::kHalves));
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, read_own_shared_width(m, model.shape));
  model.shape.shared.n_ff = n_ff;
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.rope_factors = RopeFactorKind::kOfModel;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.period = 4, .full_rope = false}, model));
  return make_gqa(std::move(model));
}

}  // namespace odmoe
