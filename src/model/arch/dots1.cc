// dots.llm1 (arXiv:2506.05767): norms of queries and keys per head, leading dense layers, routing with a
// selection bias, shared experts.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_dots1(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kKey, .scales = true, .selection_bias = kSelectionBias},
                     RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, read_shared_width(m, model.shape));
  model.shape.shared.n_ff = n_ff;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
