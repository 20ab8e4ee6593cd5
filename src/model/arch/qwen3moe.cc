// Qwen3-30B-A3B, Qwen3-235B-A22B (arXiv:2505.09388): RMSNorm of queries and keys per head, weights of the
// chosen experts normalised, no shared expert.  Qwen3-VL's language model is the same for text.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_qwen3moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
